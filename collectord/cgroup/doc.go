// Package cgroup measures how much memory the control groups of this process have left.
//
// In control groups of version 2 the memory of sockets counts, so that strangers can use
// it up from outside. When nothing is left, the kernel kills the process. Groups of
// version 1 do not count sockets: they have no limit here.
//
// The package owns the reading of the kernel's files. It does not own what to do when
// little is left (package httpserver), or the checks of collectord doctor (package doctor).
package cgroup
