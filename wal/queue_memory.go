package wal

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapMemory returns n bytes outside of the garbage collector's heap: they are
// given back as soon as they are not needed, and do not make it collect more
// often. Where there are none, they come from the heap.
func mapMemory(n int) []byte {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, n)
	}
	_ = unix.Madvise(b, unix.MADV_DONTDUMP) // no usages in a core dump, if that can be had
	return b[:n]
}

// unmapMemory gives back what mapMemory returned, from its beginning, or some of
// it. Nothing may refer to it any more.
func unmapMemory(b []byte) {
	_ = unix.Munmap(b[:cap(b)]) // fails for what came from the heap, and the garbage collector finds that
}
