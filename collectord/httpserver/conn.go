package httpserver

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/http1"
	"collectord/wal"
)

// state is what a connection is doing. Each state has one deadline, for reading and
// writing alike, and one thing that happens when it passes:
//
//	state        begins with                                limit                                    when it passes
//	opening      the connection                             http.header_timeout                      408, closed
//	handshake    the connection, with TLS                   http.header_timeout                      closed
//	idle         an answer that was written                 http.idle_timeout                        closed
//	header       a request's first byte                     http.header_timeout                      408, closed
//	body         a request's header                         http.body_grace, and http.body_rate      408, closed
//	storing      a request's last byte                      none: nothing is expected of the client
//	writing      an answer                                  http.answer_timeout                      closed
//	lingering    an answer to what was not read to its end  1 s                                      closed
//	cut off      making room for another connection         50 ms                                    closed
//	turned away  the connection, where none makes room      500 ms                                   closed
//
// The first request's header has what is left of opening, and opening what is left of
// the handshake. While a request waits for 100 Continue to be written, it is writing. To
// take leave of TLS is lingering, too.
//
// The last two have no value of this type. A connection that is cut off stays in its state
// (see conn.cut), and its time covers whatever follows: what it was doing ends at once with
// 503, which the client has to take. One that is turned away is no conn (see turnAway): it
// gets 503 once it has sent something, and is listened to until its time is up.
type state uint8

const (
	stateOpening state = iota
	stateHandshake
	stateIdle
	stateHeader
	stateBody
	stateStoring
	stateWriting
	stateLingering

	states int = iota // how many there are
)

// conn is a connection of a client: what it is doing, until when, and what of it is in
// memory. It reads and writes nothing itself: see drive.go.
//
// It leaves its deadline to the sweep of all connections: one that has passed ends what
// waits within sweepEvery. The kernel's poller need not hear of the deadline of each state
// of a request then, which took a tenth of the time of a request.
type conn struct {
	net       net.Conn        // what is read and written: in plaintext, also with TLS
	raw       net.Conn        // the socket
	secure    *tls.Conn       // nil without TLS
	handshake *handshakeLimit // of secure
	all       *connections
	server    *Server
	driven                 // by a loop, if it is
	standing               // who makes room first
	idleSince atomic.Int64 // as deadline makes it; 0 while a request is under way

	mu      sync.Mutex // guards what follows
	by      int64      // the state's deadline, as deadline makes it; 0: none
	expired bool       // net has been told that it has passed
	last    bool       // the connection ends with the request in hand
	cut     bool       // made room: no state has time any more

	// What follows belongs to whoever drives the connection.
	state  state
	http   http1.Conn
	in     []byte // what has come; what of it is consumed ends at
	from   int
	out    []byte    // what is to be written
	large  []byte    // behind it: the body of a large answer
	held   allotment // of large
	ended  bool      // nothing more is read or written
	gone   bool      // what is written is not taken
	unread bool      // the client may be sending still

	route   route
	sender  string   // of the POST of usages in hand, or empty
	request *request // a POST of usages, from its header to its answer, or to keepID
	id      wal.ID   // of its usage, after that
	todo    step     // what comes next, unless it is stepRead
	space   []byte   // where what is read next goes
	direct  bool     // which is in the body of request
	began   time.Time
	arrived int // bytes of the body

	peers     []*x509.Certificate // the client's, and those between it and its root
	client    string              // whom they name
	checked   *auth.Policy        // under which they were, at first in the handshake
	untrusted auth.Reason         // what came of it
}

// enter begins a state, with the time that it has.
func (c *conn) enter(s state) {
	limits := c.server.limits.Load()
	var d time.Duration
	switch s {
	case stateOpening, stateHandshake, stateHeader:
		d = limits.HeaderTimeout
	case stateIdle:
		d = limits.IdleTimeout
	case stateBody:
		c.enterUntil(s, c.began.Add(limits.arrival(c.arrived+limits.BodyRate)))
		return
	case stateWriting:
		d = limits.AnswerTimeout
	case stateLingering:
		d = lingerTime
	case stateStoring:
		c.enterUntil(s, time.Time{})
		return
	}
	c.enterUntil(s, c.now().Add(d))
}

// enterUntil begins a state that ends by t; the zero time stands for no deadline.
func (c *conn) enterUntil(s state, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setStateLocked(s)
	if c.cut {
		if s == stateWriting { // the server may have been slower than cutWithin to get here
			_ = c.raw.SetWriteDeadline(time.Now().Add(cutWithin))
		}
		return
	}
	c.by = c.all.deadline(t)
	if c.expired {
		c.expired = false
		_ = c.net.SetDeadline(time.Time{}) // fails for a closed connection only
	}
}

// carryOn begins a state in the time that is left of the one before.
func (c *conn) carryOn(s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setStateLocked(s)
}

func (c *conn) setStateLocked(s state) {
	c.state = s
	if s > stateIdle {
		c.idleSince.Store(0)
	}
}

// expire wakes what waits on the connection if its deadline has passed.
func (c *conn) expire(past int64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by != 0 && c.by <= past && !c.expired {
		c.expired = true
		_ = c.net.SetDeadline(now)
	}
}

// cutOff ends the connection, whatever it is doing, and returns what that was. The
// client has cutWithin to take an answer, or the rest of one.
func (c *conn) cutOff() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.last, c.by = true, true, 0
	_ = c.raw.SetReadDeadline(time.Now())
	_ = c.raw.SetWriteDeadline(time.Now().Add(cutWithin))
	return c.state
}

// end closes the connection if no request has begun, or else with its answer.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
	switch c.state {
	case stateOpening, stateHandshake, stateIdle:
		c.expired = true
		_ = c.net.SetDeadline(time.Now())
	}
}

// isLast reports whether the connection ends with the current request.
func (c *conn) isLast() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// now is the time for whoever drives the connection. In the turn of a loop it is that of
// the turn: to ask for it took a twentieth of a request's time.
func (c *conn) now() time.Time {
	if c.inTurn {
		return c.loop.now
	}
	return time.Now()
}

// newConn returns a connection that was accepted.
func (h *Server) newConn(c net.Conn) *conn {
	return &conn{net: c, raw: c, all: &h.open, server: h, checked: h.policy.Load(), http: http1.New(h.opts.MaxHeader)}
}
