package httpserver

import "sync"

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
