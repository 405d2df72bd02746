// Package vfs is what the log needs of a file system, and no more: an interface
// that the operating system implements here, and a simulated disk in package simdisk.
//
// It owns how files are opened (regular files only, never through a symbolic
// link), and how names and bytes become durable. It does not own what is written,
// nor what an error means: it returns errors as the operating system gives them.
package vfs
