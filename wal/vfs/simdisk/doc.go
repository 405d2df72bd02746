// Package simdisk simulates a disk in memory, for tests: one that loses power, returns
// errors, runs full, hangs and rots.
//
// What is not synced can be lost in a crash, in part and in any order that a real
// disk is free to choose: written data by the sector, names by the directory. It
// is harsher than the file systems of Linux, which keep more than they promise.
//
// It owns what is durable when. It does not own what a crash should leave: a test
// asks for states with Crash and holds what is found against its own record.
package simdisk
