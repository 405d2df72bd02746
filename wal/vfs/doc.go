// Package vfs is the file system interface that the log needs, and its implementation
// by the operating system. Package simdisk implements it by a simulated disk, for
// tests.
//
// It owns how files are opened (regular files only, never through a symbolic link), and
// how names and bytes become durable. It does not own what is written, nor what an
// error means: it returns errors as the operating system gives them.
package vfs
