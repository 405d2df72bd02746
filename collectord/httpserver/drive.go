package httpserver

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// step is what a connection needs next from whoever drives it.
type step uint8

const (
	stepRead    step = iota // read into space, then received
	stepWrite               // write out and large, then written
	stepPrepare             // prepare, which may wait for memory
	stepAppend              // append the records of request to the log, then stored
	stepEnd                 // close
)

// maxParked is how many goroutines wait for a connection at most.
const maxParked = 64

// dispatch has a connection driven: by a loop, or by a goroutine of its own, which waits for
// it or is a new one.
func (h *Server) dispatch(c *conn) {
	if c.loop != nil {
		c.loop.post(c, begins)
		return
	}
	select {
	case h.accepted <- c:
	default:
		go h.work(c)
	}
}

// work serves one connection after another. A client with a connection for each request
// finds a stack that has grown, and buffers, of which it sees only what it has filled.
func (h *Server) work(c *conn) {
	for {
		c.serve()
		in, out := c.in, c.out
		if c = h.park(); c == nil {
			return
		}
		if cap(in) == firstRead {
			c.in = in[:0]
		}
		if cap(out) <= firstRead {
			c.out = out[:0]
		}
	}
}

// park waits for a connection. It returns nil where enough others wait, and in the end.
func (h *Server) park() *conn {
	select {
	case h.parked <- struct{}{}:
	default:
		return nil
	}
	select {
	case c := <-h.accepted:
		<-h.parked
		return c
	case <-h.over:
		return nil
	}
}

// serve drives a connection, to its end. Only here is anything waited for.
func (c *conn) serve() {
	defer c.close()
	if c.secure == nil {
		c.enter(stateOpening)
	} else if c.doHandshake() != nil {
		return // there is nobody to answer
	}
	for {
		switch c.next() {
		case stepRead:
			if c.space == nil {
				c.makeSpace()
			}
			c.received(c.net.Read(c.space))
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
	if len(c.large) > 0 {
		c.bufferAnswer(largeAnswerBuffer)
		defer c.bufferAnswer(answerBuffer)
	}
	_, err := c.net.Write(c.out)
	if err == nil && len(c.large) > 0 {
		_, err = c.net.Write(c.large)
	}
	return err
}

// Bounds on how long a client is listened to that was answered while it sent.
const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// close counts the connection as open until its descriptor is closed.
func (c *conn) close() {
	c.release()
	c.giveBack()
	ends := c.net
	switch {
	case c.gone, c.hold.Load() == taken:
		ends = c.raw // TLS would wait to take leave
	case c.unread:
		c.linger()
	case c.secure != nil:
		c.enter(stateLingering)
	}
	_ = ends.Close()
	c.all.remove(c)
}

// linger reads what the client still sends. To close on it would reset the connection,
// and the answer might never be read (RFC 9112, section 9.6).
func (c *conn) linger() {
	c.enter(stateLingering)
	ends := c.net
	if c.secure != nil && !c.handshake.over { // TLS can't take leave before it has begun
		ends = c.raw
	}
	if half, ok := ends.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.raw, lingerBytes) // whatever it sends
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
