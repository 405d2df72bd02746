package httpserver

import (
	"slices"
	"sync/atomic"
)

// headBytes is the memory for headers, and for what all requests hold of bodies, of the
// connections that are driven by loops.
const headBytes = 16 << 20

// buffers are a loop's memory. Most requests come in one piece and are answered in one, so
// that they need no buffer of their own: they are read and written in the loop's. What a
// connection keeps while it waits is its share.
type buffers struct {
	scratch []byte       // what was read: room for what is kept of a connection, and some
	out     []byte       // what is to be written
	budget  int          // bytes that may be kept, of all shares together
	left    atomic.Int64 // of these; what is answered may take more than there are
	bodies  [][]byte
	hungry  []*conn // are not read, because nothing is left
	reserve int     // bytes that may be kept of a connection after it was read
}

// readAtOnce is how many bytes are read at once, but for bodies that have a place.
const readAtOnce = 4 << 10

// requestShare is what a request takes while it is under way, beside its body.
const requestShare = 1 << 10

func (b *buffers) init(maxHeader, budget int) {
	scratch := max(maxHeader, firstRead) + readAtOnce
	b.scratch, b.reserve = make([]byte, scratch), scratch+requestShare+firstBuffer
	b.budget = budget
	b.left.Store(int64(budget))
}

// lend gives a connection the loop's memory to write to.
func (l *loop) lend(c *conn) {
	if cap(c.out) == 0 {
		c.out = l.out[:0]
	}
}

// lendBody gives a request a buffer for the beginning of its body.
func (l *loop) lendBody(r *request) {
	last := len(l.bodies) - 1
	if cap(r.arriving) > 0 || last < 0 {
		return
	}
	r.arriving, l.bodies = l.bodies[last], l.bodies[:last]
}

// takeBody takes the buffer of a body back that is not needed any more.
func (l *loop) takeBody(r *request) {
	if cap(r.arriving) == firstBuffer && len(l.bodies) < spareBuffers {
		l.bodies = append(l.bodies, r.arriving[:0])
		r.arriving, r.body = nil, nil
	}
}

// makeSpace gives a connection the loop's memory to read into, behind what it has kept.
// Without a share it is not read, while its deadline runs.
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

// mayRead reports whether there is a share for whatever comes.
func (l *loop) mayRead(c *conn) bool { return int(l.left.Load())+c.share >= l.reserve }

// keep takes the loop's memory back, and gives a connection its own for what it still
// needs.
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
		share += requestShare + min(cap(c.request.arriving), firstBuffer) // what is beyond has a budget of its own
	}
	l.left.Add(int64(c.share - share))
	c.share = share
}

// own returns what is needed of b in memory that is not the loop's.
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

// feed goes on with connections that had no share, in the order in which they came. Where
// there is none for the first of them, strangers make room.
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
