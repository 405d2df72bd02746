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
	waiters []budgetWaiter // first come, first served
}

type budgetWaiter struct {
	n     int
	ready chan struct{}
}

// tryReserve reserves n bytes if they are free and no caller of reserve is waiting.
func (b *budget) tryReserve(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free < n || len(b.waiters) > 0 {
		return false
	}
	b.free -= n
	return true
}

// reserve reserves n bytes and blocks until they are free; n must not exceed the whole
// budget. A holder of bytes must return them without waiting for a client.
func (b *budget) reserve(n int) {
	b.mu.Lock()
	if b.free >= n && len(b.waiters) == 0 {
		b.free -= n
		b.mu.Unlock()
		return
	}
	w := budgetWaiter{n, make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	<-w.ready
}

// release returns n bytes to the budget.
func (b *budget) release(n int) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	for len(b.waiters) > 0 && b.waiters[0].n <= b.free {
		b.free -= b.waiters[0].n
		close(b.waiters[0].ready)
		b.waiters = b.waiters[1:]
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
		c.put(spare, cap(spare))
	default:
	}
	grown := make([]T, len(s), max(need, len(s)+len(s)/2))
	copy(grown, s)
	return grown
}

// put keeps s for reuse, unless its capacity exceeds maxCap or there are enough.
func (c spares[T]) put(s []T, maxCap int) {
	if cap(s) == 0 || cap(s) > maxCap {
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
// memory than their bytes. No slice of a mapping may be used after put.
type mappings struct {
	size int // bytes of each mapping, and the max of a body
	idle chan []byte
}

func newMappings(size int) *mappings {
	return &mappings{size: size, idle: make(chan []byte, maxSpareBuffers)}
}

// get returns an empty slice with room for any body.
func (m *mappings) get() ([]byte, error) {
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

// freePagesUpTo frees the whole pages of b from last, its previous result, up to end. It
// returns the end of the freed part.
func (m *mappings) freePagesUpTo(b []byte, last, end int) int {
	end = end / os.Getpagesize() * os.Getpagesize()
	if cap(b) == m.size && end > last {
		_ = unix.Madvise(b[last:end], unix.MADV_DONTNEED) // on an error the pages stay
	}
	return end
}

// put accepts a mapping for reuse, or unmaps it if there are enough. b must begin at the
// beginning of the mapping, and ends where the used bytes end.
func (m *mappings) put(b []byte) {
	if cap(b) != m.size {
		return // another allocator's buffer
	}
	used := len(b)
	b = b[:cap(b)]
	select {
	case m.idle <- emptyMapping(b, used):
	default:
		_ = unix.Munmap(b) // it fails only for memory that is not mapped
	}
}

// emptyMapping returns b empty, and frees its used pages beyond spareMappingBytes.
func emptyMapping(b []byte, used int) []byte {
	if used > spareMappingBytes {
		_ = unix.Madvise(b[spareMappingBytes:], unix.MADV_DONTNEED)
	}
	return b[:0]
}
