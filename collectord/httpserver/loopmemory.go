package httpserver

import (
	"slices"
	"sync/atomic"
)

// headBytes is the memory, in bytes, for headers, requests and the beginnings of bodies
// of all connections that loops drive.
const headBytes = 16 << 20

// buffers is a loop's memory for reading and writing. Most requests arrive in one piece
// and are answered in one, so the loop's buffers suffice. A connection has its own
// buffers, its share, only while it waits.
type buffers struct {
	scratch []byte       // shared read buffer, with room for a connection's earlier bytes and a read
	out     []byte       // shared write buffer
	budget  int          // max bytes of all shares together
	left    atomic.Int64 // bytes left of budget; answers can make it negative
	bodies  [][]byte
	hungry  []*conn // connections that are not read because left is below reserve
	reserve int     // max share of a connection after a read
}

// readAtOnce is how many bytes one read takes, except into a body.
const readAtOnce = 4 << 10

// requestShare is the memory, in bytes, of a request under way, without its body.
const requestShare = 1 << 10

func (b *buffers) init(maxHeader, budget int) {
	scratch := max(maxHeader, firstRead) + readAtOnce
	b.scratch, b.reserve = make([]byte, scratch), scratch+requestShare+firstBuffer
	b.budget = budget
	b.left.Store(int64(budget))
}

// lend lets a connection use the loop's write buffer.
func (l *loop) lend(c *conn) {
	if cap(c.out) == 0 {
		c.out = l.out[:0]
	}
}

// lendBody passes a request a buffer for the beginning of its body.
func (l *loop) lendBody(r *request) {
	last := len(l.bodies) - 1
	if cap(r.arriving) > 0 || last < 0 {
		return
	}
	r.arriving, l.bodies = l.bodies[last], l.bodies[:last]
}

// takeBody recovers the buffer of a body that is no longer needed.
func (l *loop) takeBody(r *request) {
	if cap(r.arriving) == firstBuffer && len(l.bodies) < spareBuffers {
		l.bodies = append(l.bodies, r.arriving[:0])
		r.arriving, r.body = nil, nil
	}
}

// makeSpace lets a connection read into the loop's buffer, behind its earlier bytes. It
// reports false if no share is left; the connection's deadline continues.
func (l *loop) makeSpace(c *conn) bool {
	if !l.mayRead(c) {
		if !c.starving {
			c.starving = true
			l.hungry = append(l.hungry, c)
			l.server.open.room.hungry.Add(1)
		}
		return false
	}
	n := copy(l.scratch, c.in[c.from:])
	c.in, c.from = l.scratch[:n], 0
	c.space = l.scratch[n:min(n+readAtOnce, len(l.scratch))]
	return true
}

// mayRead reports whether the budget suffices for all that a read may add.
func (l *loop) mayRead(c *conn) bool { return int(l.left.Load())+c.share >= l.reserve }

// keep recovers the loop's buffers from a connection, copies what it still needs into its
// own memory, and updates its share.
func (l *loop) keep(c *conn) {
	if !c.direct {
		c.space = nil
	}
	c.in = l.own(c.in, c.in[c.from:], l.scratch)
	c.from = 0
	if cap(c.out) > cap(l.out) && cap(c.out) <= firstBuffer {
		l.out = c.out[:0]
	}
	c.out = l.own(c.out, c.out, l.out)
	share := cap(c.in) + cap(c.out)
	if c.request != nil {
		share += requestShare + min(cap(c.request.arriving), firstBuffer) // larger bodies have a budget of their own
	}
	l.left.Add(int64(c.share - share))
	c.share = share
}

// own returns the needed part of b in memory that is not the loop's.
func (l *loop) own(b, needed, loops []byte) []byte {
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

// feed continues connections that wait for memory, in the order of their arrival. If the
// first one can't continue, strangers make room.
func (l *loop) feed() {
	for len(l.hungry) > 0 {
		c := l.hungry[0]
		if !c.closed && !l.mayRead(c) {
			l.starving.Store(true)
			l.server.open.relieve(len(l.hungry))
			return
		}
		l.hungry = slices.Delete(l.hungry, 0, 1)
		c.starving = false
		if !c.closed && c.waits == stepRead {
			l.drive(c)
		}
	}
	l.starving.Store(false)
}
