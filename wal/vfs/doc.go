// Package vfs is the file system interface of the log, and its implementation by the
// operating system. Package simdisk implements the interface by a simulated disk, for
// tests.
//
// It owns how files are opened (regular files only, never through a symbolic link), and
// how names and bytes become durable. Callers own what is written, and what an error
// means: vfs returns the errors of the operating system unchanged.
package vfs
