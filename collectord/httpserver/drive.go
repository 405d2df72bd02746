package httpserver

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// step is the action that conn.next asks the driver for.
type step uint8

const (
	stepRead    step = iota // read into readSpace, then call received
	stepWrite               // write out and largeBody, then call written
	stepPrepare             // call conn.prepare, which may wait for memory
	stepAppend              // append the request's records to the log, then call stored
	stepEnd                 // close the connection
)

// maxParked is how many idle goroutines wait for a connection.
const maxParked = 64

// dispatch starts driving a connection: on its loop, on an idle goroutine, or on a new
// one.
func (h *Server) dispatch(c *conn) {
	if c.loop != nil {
		c.loop.post(c, reasonNew)
		return
	}
	select {
	case h.handoff <- c:
	default:
		go h.serveConns(c)
	}
}

// serveConns serves connections one after another, so that they share the goroutine's
// grown stack and its buffers. A connection never sees bytes that an earlier one has put
// into a buffer.
func (h *Server) serveConns(c *conn) {
	for {
		c.serve()
		in, out := c.in, c.out
		if c = h.park(); c == nil {
			return
		}
		if cap(in) == firstReadBytes {
			c.in = in[:0]
		}
		if cap(out) <= firstReadBytes {
			c.out = out[:0]
		}
	}
}

// park waits for a connection. It returns nil if maxParked goroutines wait already, and
// at shutdown.
func (h *Server) park() *conn {
	select {
	case h.parked <- struct{}{}:
	default:
		return nil
	}
	select {
	case c := <-h.handoff:
		<-h.parked
		return c
	case <-h.shutdown:
		return nil
	}
}

// serve drives a connection to its end. It is the only driver that blocks.
func (c *conn) serve() {
	defer c.close()
	if c.secure == nil {
		c.enter(stateOpening)
	} else if c.doHandshake() != nil {
		return // no request has arrived that could be answered
	}
	for {
		switch c.next() {
		case stepRead:
			if c.readSpace == nil {
				c.makeReadSpace()
			}
			c.received(c.net.Read(c.readSpace))
		case stepWrite:
			c.written(c.write())
		case stepPrepare:
			c.prepare()
		case stepAppend:
			c.stored(c.server.log.AppendSeq(context.Background(), c.request.records))
		case stepEnd:
			return
		}
	}
}

func (c *conn) write() error {
	if len(c.largeBody) > 0 {
		c.setSendBuffer(largeSendBufferBytes)
		defer c.setSendBuffer(sendBufferBytes)
	}
	_, err := c.net.Write(c.out)
	if err == nil && len(c.largeBody) > 0 {
		_, err = c.net.Write(c.largeBody)
	}
	return err
}

// Limits of lingering: how long, and how many bytes, a client is read after its answer.
const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// close closes the connection. The connection counts as open until its descriptor is
// closed.
func (c *conn) close() {
	c.rejectDropped()
	c.releaseRequest()
	c.releaseLargeBody()
	closing := c.net
	switch {
	case c.unwritable, c.hold.Load() == holdTaken:
		closing = c.raw // closing TLS could wait to send close_notify
	case c.clientMaySend:
		c.linger()
	case c.secure != nil:
		c.enter(stateLingering)
	}
	if raw, err := c.descriptor(); err == nil {
		_ = raw.Control(c.dropUnreadAnswer)
	}
	_ = closing.Close()
	c.registry.remove(c)
}

// reset closes the connection at once, without an answer. The kernel frees its buffers. It is
// safe for concurrent use.
func (c *conn) reset() {
	if c.loop != nil {
		c.loop.post(c, reasonDropped)
		return
	}
	if raw, err := c.descriptor(); err == nil {
		_ = raw.Control(resetOnClose)
	}
	_ = c.raw.Close() // the goroutine that drives it notices
}

// descriptor returns access to the socket's descriptor.
func (c *conn) descriptor() (syscall.RawConn, error) {
	if sc, ok := c.raw.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// linger discards what the client still sends. Closing with unread bytes resets the
// connection, and the client might lose the answer (RFC 9112, section 9.6).
func (c *conn) linger() {
	c.enter(stateLingering)
	closing := c.net
	if c.secure != nil && !c.handshake.done { // TLS has no close_notify before the handshake
		closing = c.raw
	}
	if half, ok := closing.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.raw, lingerBytes) // the content does not matter
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
