package httpserver

import (
	"os"

	"golang.org/x/sys/unix"
)

// mappings are memory for large bodies. They lie outside of what the garbage
// collector looks after, take pages only for what has arrived, need no copying
// as a body grows, and give their pages back at once: a crowd of large bodies
// costs what they hold and no more. Nothing may refer to one after give.
type mappings struct {
	size int // of each, in bytes: no body is larger
	idle chan []byte
}

func newMappings(size int) *mappings {
	return &mappings{size: size, idle: make(chan []byte, spareBuffers)}
}

// take returns an empty slice with room for any body.
func (m *mappings) take() ([]byte, error) {
	select {
	case b := <-m.idle:
		return b, nil
	default:
	}
	b, err := unix.Mmap(-1, 0, m.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	// Neither matters enough to fail for: small pages, so that what is reserved
	// is what is taken, and no usages in a core dump.
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	return b[:0], nil
}

// forgetUpTo gives back the pages of b from where it came last time up to end, as
// far as they are whole, and returns how far it came.
func (m *mappings) forgetUpTo(b []byte, last, end int) int {
	end = end / os.Getpagesize() * os.Getpagesize()
	if cap(b) == m.size && end > last {
		_ = unix.Madvise(b[last:end], unix.MADV_DONTNEED) // no harm if they stay
	}
	return end
}

// give takes b back, which holds a body that began at its beginning. A few are
// kept for others, with few of their pages.
func (m *mappings) give(b []byte) {
	if cap(b) != m.size {
		return // it is another's
	}
	used := len(b)
	b = b[:cap(b)]
	select {
	case m.idle <- forget(b, used):
	default:
		_ = unix.Munmap(b) // fails for what is none only
	}
}

// forget returns b empty, with no more than spareBytes of its used pages.
func forget(b []byte, used int) []byte {
	if used > spareBytes {
		_ = unix.Madvise(b[spareBytes:], unix.MADV_DONTNEED)
	}
	return b[:0]
}
