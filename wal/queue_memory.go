package wal

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapMemory returns n zero bytes outside of the garbage collector's heap. Such memory
// returns to the system at once and does not cause more frequent collections. If
// mmap(2) fails, the bytes come from the heap.
func mapMemory(n int) []byte {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, n)
	}
	_ = unix.Madvise(b, unix.MADV_DONTDUMP) // best effort: no usages in a core dump
	return b[:n]
}

// unmapMemory returns memory of mapMemory to the system. b must begin where that memory
// begins. No reference to it may remain.
func unmapMemory(b []byte) {
	_ = unix.Munmap(b[:cap(b)]) // fails for heap memory, which the garbage collector frees
}
