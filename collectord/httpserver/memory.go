package httpserver

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"

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

// loopsBudgetBytes is the memory, in bytes, for headers, requests and the beginnings of bodies
// of all connections that loops drive.
const loopsBudgetBytes = 16 << 20

// maxReadBytes is how many bytes one read takes, except into a body.
const maxReadBytes = 4 << 10

// requestShareBytes is the memory, in bytes, of a request under way, without its body.
const requestShareBytes = 1 << 10

// buffers is a loop's memory for reading and writing. Most requests arrive in one piece
// and are answered in one, so the loop's buffers suffice. A connection has its own
// buffers, its share, only while it waits.
type buffers struct {
	readBuf       []byte       // shared read buffer, with room for a connection's earlier bytes and a read
	writeBuf      []byte       // shared write buffer
	budgetBytes   int          // max bytes of all shares together
	leftBytes     atomic.Int64 // bytes left of budgetBytes; answers can make it negative
	bodyBufs      [][]byte
	memoryWaiters []*conn // connections that are not read because leftBytes is too small
	maxShareBytes int     // max share of a connection after a read
}

func (b *buffers) init(maxHeader, budgetBytes int) {
	size := max(maxHeader, firstReadBytes) + maxReadBytes
	b.readBuf, b.maxShareBytes = make([]byte, size), size+requestShareBytes+firstBufferBytes
	b.budgetBytes = budgetBytes
	b.leftBytes.Store(int64(budgetBytes))
}

// attachWriteBuffer lets a connection use the loop's write buffer.
func (l *loop) attachWriteBuffer(c *conn) {
	if cap(c.out) == 0 {
		c.out = l.writeBuf[:0]
	}
}

// attachBodyBuffer passes a request a buffer for the beginning of its body.
func (l *loop) attachBodyBuffer(r *request) {
	last := len(l.bodyBufs) - 1
	if cap(r.rawBody) > 0 || last < 0 {
		return
	}
	r.rawBody, l.bodyBufs = l.bodyBufs[last], l.bodyBufs[:last]
}

// reclaimBodyBuffer recovers the buffer of a body that is no longer needed.
func (l *loop) reclaimBodyBuffer(r *request) {
	if cap(r.rawBody) == firstBufferBytes && len(l.bodyBufs) < maxSpareBuffers {
		l.bodyBufs = append(l.bodyBufs, r.rawBody[:0])
		r.rawBody, r.body = nil, nil
	}
}

// makeReadSpace lets a connection read into the loop's buffer, after its earlier bytes. It
// reports false if no share is left; the connection's deadline continues.
func (l *loop) makeReadSpace(c *conn) bool {
	if !l.mayRead(c) {
		if !c.awaitingMemory {
			c.awaitingMemory = true
			l.memoryWaiters = append(l.memoryWaiters, c)
			l.server.conns.room.readsDelayed.Add(1)
		}
		return false
	}
	n := copy(l.readBuf, c.in[c.consumed:])
	c.in, c.consumed = l.readBuf[:n], 0
	c.readSpace = l.readBuf[n:min(n+maxReadBytes, len(l.readBuf))]
	return true
}

// mayRead reports whether the budget suffices for all that a read may add.
func (l *loop) mayRead(c *conn) bool { return int(l.leftBytes.Load())+c.shareBytes >= l.maxShareBytes }

// reclaimBuffers recovers the loop's buffers from a connection, copies what it still needs
// into its own memory, and updates its share.
func (l *loop) reclaimBuffers(c *conn) {
	if !c.readsIntoBody {
		c.readSpace = nil
	}
	c.in = l.ownCopy(c.in, c.in[c.consumed:], l.readBuf)
	c.consumed = 0
	if cap(c.out) > cap(l.writeBuf) && cap(c.out) <= firstBufferBytes {
		l.writeBuf = c.out[:0]
	}
	c.out = l.ownCopy(c.out, c.out, l.writeBuf)
	share := cap(c.in) + cap(c.out)
	if c.request != nil {
		share += requestShareBytes + min(cap(c.request.rawBody), firstBufferBytes) // larger bodies take from other budgets
	}
	l.leftBytes.Add(int64(c.shareBytes - share))
	c.shareBytes = share
}

// ownCopy returns the needed part of b in memory that the connection owns.
func (l *loop) ownCopy(b, needed, loops []byte) []byte {
	switch {
	case len(needed) == 0:
		return nil
	case cap(loops) > 0 && &b[:1][0] == &loops[:1][0]:
		return append(make([]byte, 0, (len(needed)+255)&^255), needed...)
	case len(needed) < len(b):
		return append(b[:0], needed...)
	}
	return b
}

// resumeMemoryWaiters continues connections that wait for memory, in the order in which
// they began to wait. If the first one can't continue, strangers make room.
func (l *loop) resumeMemoryWaiters() {
	for len(l.memoryWaiters) > 0 {
		c := l.memoryWaiters[0]
		if !c.closed && !l.mayRead(c) {
			l.memoryShort.Store(true)
			l.server.conns.cutForMemory(len(l.memoryWaiters))
			return
		}
		l.memoryWaiters = slices.Delete(l.memoryWaiters, 0, 1)
		c.awaitingMemory = false
		if !c.closed && c.waitingFor == stepRead {
			l.drive(c)
		}
	}
	l.memoryShort.Store(false)
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
