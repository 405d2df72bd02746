// Package simdisk simulates a disk in memory, for tests. The disk can lose power, return
// errors, become full, hang, and corrupt stored bytes.
//
// A crash can lose what is not synced, in part and in any order that a real disk may
// choose: written data by the sector, names by the directory. It is harsher than the file
// systems of Linux, which keep more than they promise.
//
// Package simdisk determines what is durable at each moment. A test determines what a
// crash should leave: it takes states with Crash and compares them with its own record.
package simdisk
