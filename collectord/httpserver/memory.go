package httpserver

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// budget is an amount of memory, in bytes, that requests share.
type budget struct {
	mu      sync.Mutex // guards the fields below
	free    int
	waiting []waiter // first come, first served
}

type waiter struct {
	n     int
	ready chan struct{}
}

// take reserves n bytes if they are free and no caller of wait is ahead.
func (b *budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free < n || len(b.waiting) > 0 {
		return false
	}
	b.free -= n
	return true
}

// wait reserves n bytes and blocks until they are free; n must not exceed the whole
// budget. A holder of bytes must return them without waiting for a client.
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

// give returns n bytes to the budget.
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

// spares keeps a few large buffers for reuse, up to its capacity. The garbage collector
// frees the others.
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

// keep keeps s for reuse, unless it has more than most elements or there are enough.
func (c spares[T]) keep(s []T, most int) {
	if cap(s) == 0 || cap(s) > most {
		return
	}
	select {
	case c <- s[:0]:
	default:
	}
}

// mappings allocates memory for large bodies with mmap, outside of the garbage
// collector's heap. A mapping uses pages only for bytes that have arrived, needs no
// copying as a body grows, and frees its pages at once. So many large bodies take no more
// memory than their bytes. No slice of a mapping may be used after give.
type mappings struct {
	size int // bytes of each mapping, and the max of a body
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
	// Both are optional, so errors are ignored: small pages keep the memory used near the
	// bytes written, and core dumps contain no usages.
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	return b[:0], nil
}

// forgetUpTo frees the whole pages of b from last, its previous result, up to end. It
// returns the end of the freed part.
func (m *mappings) forgetUpTo(b []byte, last, end int) int {
	end = end / os.Getpagesize() * os.Getpagesize()
	if cap(b) == m.size && end > last {
		_ = unix.Madvise(b[last:end], unix.MADV_DONTNEED) // on an error the pages stay
	}
	return end
}

// give accepts a mapping for reuse, or unmaps it if there are enough. b must begin at the
// beginning of the mapping, and ends where the used bytes end.
func (m *mappings) give(b []byte) {
	if cap(b) != m.size {
		return // another allocator's buffer
	}
	used := len(b)
	b = b[:cap(b)]
	select {
	case m.idle <- forget(b, used):
	default:
		_ = unix.Munmap(b) // it fails only for memory that is not mapped
	}
}

// forget returns b empty, and frees its used pages beyond spareBytes.
func forget(b []byte, used int) []byte {
	if used > spareBytes {
		_ = unix.Madvise(b[spareBytes:], unix.MADV_DONTNEED)
	}
	return b[:0]
}
