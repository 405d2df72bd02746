package wal

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapMemory returns n zero bytes outside of the garbage collector's heap, which can be
// returned to the system at once and do not make it collect more often. Where mmap(2)
// fails they come from the heap.
func mapMemory(n int) []byte {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, n)
	}
	_ = unix.Madvise(b, unix.MADV_DONTDUMP) // best effort: no usages in a core dump
	return b[:n]
}

// unmapMemory returns memory of mapMemory to the system. b must begin where that began.
// Nothing may refer to it any more.
func unmapMemory(b []byte) {
	_ = unix.Munmap(b[:cap(b)]) // fails for memory of the heap, which the garbage collector frees
}
