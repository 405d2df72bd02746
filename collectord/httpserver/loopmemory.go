package httpserver

import (
	"slices"
	"sync/atomic"
)

// loopsBudgetBytes is the memory, in bytes, for headers, requests and the beginnings of bodies
// of all connections that loops drive.
const loopsBudgetBytes = 16 << 20

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

// maxReadBytes is how many bytes one read takes, except into a body.
const maxReadBytes = 4 << 10

// requestShareBytes is the memory, in bytes, of a request under way, without its body.
const requestShareBytes = 1 << 10

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
