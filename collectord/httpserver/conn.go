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

// state is what a connection is doing. Each state has one deadline for both reading and
// writing, and one action when it passes:
//
//	state        begins with                                limit                                    when it passes
//	opening      the connection                             http.header_timeout                      408, closed
//	handshake    the connection, with TLS                   http.header_timeout                      closed
//	idle         an answer that was written                 http.idle_timeout                        closed
//	header       a request's first byte                     http.header_timeout                      408, closed
//	body         a request's header                         http.body_grace, and http.body_rate      408, closed
//	storing      a request's last byte                      none: nothing is expected of the client
//	writing      an answer                                  http.answer_timeout                      closed
//	lingering    an answer, if the client may send more     1 s                                      closed
//	cut off      making room for another connection         50 ms                                    closed
//	turned away  the connection, if no other makes room     500 ms                                   closed
//
// States before the end of a connection's first header share one limit: opening has the
// time that the handshake left, and header the time that opening left. While
// 100 Continue is being written, the state is writing. The close_notify of TLS is sent in
// lingering.
//
// The last two rows have no value of this type. A connection that is cut off stays in its
// state (see conn.cut). Its work ends at once with 503, and the limit includes everything
// until the connection is closed. A connection that is turned away has no conn (see
// turnAway). It gets 503 after its first byte, and is then read until the client closes
// it or the limit passes. A connection that is dropped (see groupmemory.go) is closed at once
// in any state, without an answer.
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

	states int = iota // the number of states
)

// conn is a client's connection: its state, its deadline and its bytes in memory. It does
// no input and output itself: see drive.go.
//
// The sweep of all connections enforces the deadline, up to sweepEvery late. Setting each
// state's deadline in the kernel's poller took a tenth of a request's time.
type conn struct {
	net       net.Conn        // carries the plaintext, also with TLS
	raw       net.Conn        // the socket
	secure    *tls.Conn       // nil without TLS
	handshake *handshakeLimit // below secure
	registry  *connections
	server    *Server
	loopState              // state of a loop, if one drives the connection
	roomState              // decides when it makes room
	idleSince atomic.Int64 // start of the time without a request, by connections.deadline; 0 during a request

	mu        sync.Mutex // guards the fields below
	deadline  int64      // the state's deadline, by connections.deadline; 0: none
	expirySet bool       // the passed deadline was set on net
	last      bool       // the connection ends with the current request
	cut       bool       // it makes room: its states have no limits of their own any more

	// Only the driver of the connection uses the fields below.
	state         state
	http          http1.Conn
	in            []byte // bytes received; those before the offset consumed are processed
	consumed      int
	out           []byte      // bytes to write
	largeBody     []byte      // bytes to write after out: the body of a large answer
	largeReserved reservation // budget of largeBody
	mustClose     bool        // the connection is to be closed
	unwritable    bool        // nothing can be written to the client any more
	clientMaySend bool        // the client may still be sending

	route         route
	sender        string   // client name of the current POST of usages, or empty
	request       *request // the current POST of usages, from its header to its answer or to reduceToID
	keptID        wal.ID   // id of its usage, after reduceToID
	nextStep      step     // next step, unless it is stepRead
	readSpace     []byte   // memory for the next read
	readsIntoBody bool     // readSpace is a part of request's body
	requestStart  time.Time
	bodyReceived  int // bytes of the body that have arrived

	peers             []*x509.Certificate // the client's certificate and its chain
	certificateName   string              // the name in the client's certificate
	checkedPolicy     *auth.Policy        // policy by which peers were checked last
	certificateReason auth.Reason         // result of that check
}

// enter begins a state and sets the deadline for it.
func (c *conn) enter(s state) {
	limits := c.server.limits.Load()
	var d time.Duration
	switch s {
	case stateOpening, stateHandshake, stateHeader:
		d = limits.HeaderTimeout
	case stateIdle:
		d = limits.IdleTimeout
	case stateBody:
		c.enterUntil(s, c.requestStart.Add(limits.maxBodyTime(c.bodyReceived+limits.BodyRate)))
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

// enterUntil begins a state whose deadline is t; the zero time means no deadline.
func (c *conn) enterUntil(s state, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setStateLocked(s)
	if c.cut {
		if s == stateWriting { // a slow server may have used up cutOffTime
			_ = c.raw.SetWriteDeadline(time.Now().Add(cutOffTime))
		}
		return
	}
	c.deadline = c.registry.deadline(t)
	if c.expirySet {
		c.expirySet = false
		_ = c.net.SetDeadline(time.Time{}) // it fails only for a closed connection
	}
}

// enterKeepingDeadline begins a state and keeps the deadline of the previous one.
func (c *conn) enterKeepingDeadline(s state) {
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

// expire wakes a blocked read or write if the connection's deadline has passed.
func (c *conn) expire(past int64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline != 0 && c.deadline <= past && !c.expirySet {
		c.expirySet = true
		_ = c.net.SetDeadline(now)
	}
}

// cutOff ends the connection in any state, and returns that state. The client has
// cutOffTime to take an answer.
func (c *conn) cutOff() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.last, c.deadline = true, true, 0
	_ = c.raw.SetReadDeadline(time.Now())
	_ = c.raw.SetWriteDeadline(time.Now().Add(cutOffTime))
	return c.state
}

// drop marks the connection as dropped, and returns its state. The caller then calls reset,
// which closes it whatever its deadline is.
func (c *conn) drop() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped.Store(true)
	return c.state
}

// end ends the connection: at once if no request has begun, or else after its answer.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
	switch c.state {
	case stateOpening, stateHandshake, stateIdle:
		c.expirySet = true
		_ = c.net.SetDeadline(time.Now())
	}
}

// isLast reports whether the connection ends with the current request.
func (c *conn) isLast() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// now returns the time. In a turn of a loop it is the time of the turn, because reading
// the clock took a twentieth of a request's time.
func (c *conn) now() time.Time {
	if c.ownedByLoop {
		return c.loop.now
	}
	return time.Now()
}

func (h *Server) newConn(c net.Conn) *conn {
	return &conn{net: c, raw: c, registry: &h.conns, server: h, checkedPolicy: h.policy.Load(), http: http1.New(h.opts.MaxHeader)}
}
