package httpserver

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// budget is an amount of memory that requests share.
type budget struct {
	mu      sync.Mutex // guards what follows
	free    int
	waiting []waiter // first come, first served
}

type waiter struct {
	n     int
	ready chan struct{}
}

// take reserves n bytes, if they are free and nobody waits for them.
func (b *budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free < n || len(b.waiting) > 0 {
		return false
	}
	b.free -= n
	return true
}

// wait reserves n bytes, which must not be more than there are in all, once they
// are free. Who holds some must be sure to give them back soon.
func (b *budget) wait(n int) {
	b.mu.Lock()
	if b.free >= n && len(b.waiting) == 0 {
		b.free -= n
		b.mu.Unlock()
		return
	}
	w := waiter{n, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	<-w.ready
}

// give returns n bytes.
func (b *budget) give(n int) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	for len(b.waiting) > 0 && b.waiting[0].n <= b.free {
		b.free -= b.waiting[0].n
		close(b.waiting[0].ready)
		b.waiting = b.waiting[1:]
	}
}

// spares are a few buffers kept for whoever needs a large one next. Those that
// find no place are left to the garbage collector.
type spares[T any] chan []T

// grow returns s with room for at least n more elements.
func (c spares[T]) grow(s []T, n int) []T {
	need := len(s) + n
	if need <= cap(s) {
		return s
	}
	select {
	case spare := <-c:
		if cap(spare) >= need {
			return append(spare[:0], s...)
		}
		c.keep(spare, cap(spare))
	default:
	}
	grown := make([]T, len(s), max(need, len(s)+len(s)/2))
	copy(grown, s)
	return grown
}

// keep takes s back unless it is larger than most, or there are enough.
func (c spares[T]) keep(s []T, most int) {
	if cap(s) == 0 || cap(s) > most {
		return
	}
	select {
	case c <- s[:0]:
	default:
	}
}

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
