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

// driven is what a loop knows of a connection that it drives.
type driven struct {
	loop   *loop // nil: a goroutine of its own drives the connection
	socket *socket
	fd     int

	posted reason // why the loop is to look at it; guarded by the loop's mutex

	inTurn bool // the loop's goroutine has it, and no worker

	// What follows belongs to the loop's goroutine.
	waits    step // for what; stepEnd: for the client's end
	readable bool // there may be something to read
	hungUp   bool // the client sends no more
	starving bool // waits for a share of the loop's memory
	closed   bool
	share    int         // bytes of the loop's memory that it keeps
	sent     int         // bytes of out and large that were written
	ignored  int         // bytes that were read after the answer
	stores   *wal.Waiter // of what a worker appends
}

// reason is why a loop looks at a connection, beside what happens to its socket.
type reason uint8

const (
	begins   reason = 1 << iota // it is new
	late                        // a deadline may have passed
	prepared                    // a worker has prepared its request
	appended                    // what a worker has appended is stored, or not
	more                        // there is more to do
)

// look goes on with a connection that was posted.
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

// begin takes in a connection, which mostly has sent something by now.
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

// stored goes on with a connection whose usages are stored, or not.
func (l *loop) stored(c *conn, err error) {
	l.lend(c)
	c.stored(err)
	l.drive(c)
}

// drive goes on with a connection until it has to wait.
func (l *loop) drive(c *conn) {
	l.lend(c)
	job := l.advance(c)
	l.keep(c)
	if job != stepRead {
		l.work(c, job)
	}
}

// readsInTurn is how often a connection is read until others have their turn.
const readsInTurn = 16

// advance returns what a worker is to do, or stepRead for nothing.
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
				l.takeBody(c.request) // which is copied
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

// read reports whether there was something, or there won't be.
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
		c.readable = n == len(c.space) || c.hungUp // or else there was no more
		c.received(n, nil)
	}
	return true
}

// write reports whether all was written, or the rest can't be.
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

// end closes a connection, once the client has read its answer: see conn.linger.
func (l *loop) end(c *conn) {
	c.release()
	c.giveBack()
	c.in, c.from, c.out = nil, 0, nil // what was not looked at is no share of it any more
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

// discard reads what nobody wants.
func (l *loop) discard(c *conn) {
	n, err := epoll.Recv(c.fd, l.scratch)
	c.ignored += n
	switch {
	case c.socket.isLate(reading, l.now), n == 0 && !errors.Is(err, syscall.EAGAIN), c.ignored >= lingerBytes:
		l.close(c)
	case n > 0:
		l.post(c, more) // others have their turn
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

// isQuick reports whether it takes some microseconds to prepare the request, and waits for
// nothing.
func (c *conn) isQuick() bool {
	r := c.request
	return r.coding == identity && len(r.arriving) <= freeBytes && bytes.Count(r.arriving, []byte("{")) <= freeParts
}
