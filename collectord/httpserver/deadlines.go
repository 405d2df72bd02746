package httpserver

import (
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// state is what a connection is doing. Each state has one deadline, for reading
// and writing alike: entering a state replaces that of the one before, even if it
// has passed already.
type state uint8

const (
	stateOpening   state = iota // up to the first header; its time is the handshake's, too
	stateHandshake              // of TLS
	stateIdle                   // up to the first byte of the next request
	stateHeader
	stateBody
	stateStoring // nothing is expected of the client: no deadline
	stateWriting // an answer

	states int = iota // how many there are
)

// enter begins a state, with the time that it has.
func (c *connection) enter(s state) {
	if c == nil {
		return
	}
	limits := c.door.limits.Load()
	var d time.Duration
	switch s {
	case stateOpening, stateHandshake, stateHeader:
		d = limits.HeaderTimeout
	case stateIdle:
		d = limits.IdleTimeout
	case stateBody:
		d = limits.arrival(prefetched)
	case stateWriting:
		d = limits.AnswerTimeout
	case stateStoring:
		c.enterUntil(s, time.Time{})
		return
	}
	c.enterUntil(s, time.Now().Add(d))
}

// enterUntil begins a state that ends by t; the zero time stands for no deadline.
func (c *connection) enterUntil(s state, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
	if c.cut {
		return
	}
	c.by = c.all.deadline(t)
	if c.expired {
		c.expired = false
		_ = c.Conn.SetDeadline(time.Time{}) // fails for a closed connection only
	}
}

// expire wakes what waits on the connection if its deadline has passed.
func (c *connection) expire(past int64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by != 0 && c.by <= past && !c.expired {
		c.expired = true
		_ = c.Conn.SetDeadline(now)
	}
}

// carryOn begins a state in the time that is left of the one before.
func (c *connection) carryOn(s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// cutOff ends the connection, whatever it is doing, and returns what that was. The
// client has cutWithin to take an answer.
func (c *connection) cutOff() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.last, c.by = true, true, 0
	_ = c.Conn.SetReadDeadline(time.Now())
	_ = c.Conn.SetWriteDeadline(time.Now().Add(cutWithin))
	return c.state
}

// end closes the connection if it is idle. A request that has just begun is still
// answered, as the last one.
func (c *connection) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.expired = true, true
	_ = c.Conn.SetDeadline(time.Now())
}

// isLast reports whether the connection ends with the current request.
func (c *connection) isLast() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Write sends answers, always in stateWriting. The server also writes in between:
// 100 Continue, and answers to pipelined requests before it waits for the rest of
// the next header. The state that this interrupts begins anew.
func (c *connection) Write(p []byte) (int, error) {
	if interrupted := c.state; interrupted != stateWriting {
		c.enter(stateWriting)
		defer c.enter(interrupted)
	}
	return c.Conn.Write(p)
}

// SetReadDeadline begins or extends stateBody. The server calls it once it has
// received a header, before it reads the beginning of the body.
func (c *connection) SetReadDeadline(t time.Time) error {
	c.enterUntil(stateBody, t)
	return nil
}

// SetWriteDeadline does nothing: the state has its deadline.
func (*connection) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline does nothing: the state has its deadline.
func (*connection) SetDeadline(time.Time) error { return nil }

// connected is told by the server when a connection is new, when a request begins
// and when it was answered. The rest of the states begin where they do.
func connected(c net.Conn, s fasthttp.ConnState) {
	conn, ok := c.(*connection)
	if !ok {
		return
	}
	switch s {
	case fasthttp.StateNew:
		conn.idleSince.Store(conn.all.deadline(time.Now()))
		if conn.secure != nil {
			conn.enter(stateHandshake)
			return
		}
		conn.enter(stateOpening)
	case fasthttp.StateActive:
		conn.idleSince.Store(0)
		if conn.requests++; conn.requests > 1 {
			conn.enter(stateHeader)
		} else {
			conn.carryOn(stateHeader) // the first one's time began with the connection
		}
	case fasthttp.StateIdle:
		conn.idleSince.Store(conn.all.deadline(time.Now()))
		conn.hold.CompareAndSwap(kept, free)
		conn.enter(stateIdle)
	}
}

// connectionOf returns the connection that a request came on. It is nil, on which
// nothing is known and nothing has a deadline, where the server was given another.
func connectionOf(ctx *fasthttp.RequestCtx) *connection {
	c, _ := ctx.Conn().(*connection)
	return c
}
