// Package simdisk simulates a disk in memory, for tests: it can lose power, return
// errors, run full, hang and rot.
//
// A crash can lose what is not synced, in part and in any order that a real disk may
// choose: written data by the sector, names by the directory. It is harsher than the
// file systems of Linux, which keep more than they promise.
//
// It owns what is durable when. It does not own what a crash should leave: a test takes
// states with Crash and compares them with its own record.
package simdisk
