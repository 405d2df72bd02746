package httpserver

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"collectord/collectord/epoll"
	"collectord/wal"
)

// driven is a loop's state of a connection that it drives.
type driven struct {
	loop   *loop // nil if a goroutine of its own drives the connection
	socket *socket
	fd     int

	posted reason // why the loop must look at it; guarded by the loop's mutex

	inTurn bool // the loop's goroutine owns it, not a worker

	// Only the loop's goroutine uses the fields below.
	waits    step // step that waits for the socket; stepEnd while lingering
	readable bool // the socket may be readable
	hungUp   bool // the client has closed its side
	starving bool // it waits for a share of the loop's memory
	closed   bool
	share    int         // bytes counted in the loop's memory
	sent     int         // bytes of out and large already written
	ignored  int         // bytes discarded after the answer
	stores   *wal.Waiter // outcome of what a worker appended
}

// reason is why a loop looks at a connection, other than an event of its socket.
type reason uint8

const (
	begins   reason = 1 << iota // the connection is new
	late                        // a deadline may have passed
	prepared                    // a worker has prepared its request
	appended                    // the append of a worker has ended, with or without an error
	more                        // there is more to do
)

// look continues a connection that was posted.
func (l *loop) look(c *conn, why reason) {
	if why&late != 0 {
		l.now = time.Now() // the deadline may have passed after the turn began
	}
	switch {
	case why&begins != 0:
		c.inTurn = true
		l.begin(c)
	case why&prepared != 0:
		c.inTurn = true
		l.drive(c)
	case why&appended != 0:
		c.inTurn = true
		l.stored(c, c.stores.Outcomes(nil)[0].Err)
	case c.waits == stepRead, c.waits == stepWrite:
		l.drive(c)
	case c.waits == stepEnd:
		l.discard(c)
	}
}

// begin registers a connection with the poller. It reads at once, since most clients have
// already sent something.
func (l *loop) begin(c *conn) {
	if err := l.poller.Add(c.fd); err != nil {
		l.server.opts.Logger.Error("a connection can't be waited for: it is closed", "trouble", "event_loop", "error", err)
		l.close(c)
		return
	}
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	c.readable = true
	c.enter(stateOpening)
	l.drive(c)
}

// stored continues a connection after the log has stored its usages or failed.
func (l *loop) stored(c *conn, err error) {
	l.lend(c)
	c.stored(err)
	l.drive(c)
}

// drive continues a connection until it has to wait.
func (l *loop) drive(c *conn) {
	l.lend(c)
	job := l.advance(c)
	l.keep(c)
	if job != stepRead {
		l.work(c, job)
	}
}

// readsInTurn is how often a connection is read before others have their turn.
const readsInTurn = 16

// advance executes steps until the connection has to wait. It returns a step for a
// worker, or stepRead for none.
func (l *loop) advance(c *conn) (job step) {
	reads := 0
	if c.waits == stepRead && !l.read(c) || c.waits == stepWrite && !l.write(c) {
		return stepRead
	}
	for {
		switch c.waits = c.next(); c.waits {
		case stepRead:
			if reads++; reads == readsInTurn {
				l.post(c, more)
				return stepRead
			}
			if !l.read(c) {
				return stepRead
			}
		case stepWrite:
			if !l.write(c) {
				return stepRead
			}
		case stepPrepare:
			if !c.isQuick() {
				return stepPrepare
			}
			c.prepare()
		case stepAppend:
			commit, err := l.server.log.AppendTo(l.waiter, c.request.records)
			switch {
			case err == nil:
				l.takeBody(c.request) // the log has copied it
				c.keepID()
				l.await(c, commit)
				return stepRead
			case errors.Is(err, ErrStarting):
				return stepAppend
			}
			c.stored(err)
		case stepEnd:
			l.end(c)
			return stepRead
		}
	}
}

// read reports whether it has passed anything to the connection: bytes, the end, or an
// error.
func (l *loop) read(c *conn) bool {
	switch {
	case c.socket.isLate(reading, l.now):
		c.received(0, os.ErrDeadlineExceeded)
		return true
	case !c.readable:
		return false
	case c.space == nil && !l.makeSpace(c):
		return false
	}
	n, err := epoll.Recv(c.fd, c.space)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		c.readable = false
		return false
	case err != nil:
		c.received(0, socketError("read", err))
	case n == 0:
		c.received(0, io.EOF)
	default:
		c.readable = n == len(c.space) || c.hungUp // a partly filled space means an empty socket
		c.received(n, nil)
	}
	return true
}

// write reports whether it has ended: with all bytes written, or with an error.
func (l *loop) write(c *conn) bool {
	if len(c.large) > 0 && c.sent == 0 {
		setAnswerBuffer(uintptr(c.fd), largeAnswerBuffer)
	}
	for {
		var rest []byte
		if c.sent < len(c.out) {
			rest = c.out[c.sent:]
		} else {
			rest = c.large[c.sent-len(c.out):]
		}
		if len(rest) == 0 {
			if len(c.large) > 0 {
				setAnswerBuffer(uintptr(c.fd), answerBuffer)
			}
			c.sent = 0
			c.written(nil)
			return true
		}
		n, err := 0, os.ErrDeadlineExceeded
		if !c.socket.isLate(writing, l.now) {
			n, err = epoll.Send(c.fd, rest)
		}
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			c.written(err)
			return true
		}
		c.sent += n
	}
}

// end closes a connection. If the client may still be sending, it lingers first: see
// conn.linger.
func (l *loop) end(c *conn) {
	c.release()
	c.giveBack()
	c.in, c.from, c.out = nil, 0, nil // unconsumed bytes no longer count in its share
	if c.gone || c.hold.Load() == taken || !c.unread {
		l.close(c)
		return
	}
	c.enter(stateLingering)
	if c.socket.CloseWrite() != nil {
		l.close(c)
		return
	}
	l.post(c, more)
}

// discard reads and drops what a client sends while its connection lingers.
func (l *loop) discard(c *conn) {
	n, err := epoll.Recv(c.fd, l.scratch)
	c.ignored += n
	switch {
	case c.socket.isLate(reading, l.now), n == 0 && !errors.Is(err, syscall.EAGAIN), c.ignored >= lingerBytes:
		l.close(c)
	case n > 0:
		l.post(c, more) // other connections have their turn first
	default:
		c.readable = false
	}
}

func (l *loop) close(c *conn) {
	c.closed = true
	if c.fd < len(l.conns) {
		l.conns[c.fd] = nil
	}
	l.load.Add(-1)
	_ = c.net.Close()
	c.all.remove(c)
}

// isQuick reports whether preparing the request takes only microseconds and never waits.
func (c *conn) isQuick() bool {
	r := c.request
	return r.coding == identity && len(r.arriving) <= freeBytes && bytes.Count(r.arriving, []byte("{")) <= freeParts
}
