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

// loopState is a loop's state of a connection that it drives.
type loopState struct {
	loop   *loop // nil if conn.serve drives the connection
	socket *socket
	fd     int

	posted postReason // why the loop must look at it; guarded by the loop's mutex

	ownedByLoop bool // the loop's goroutine owns it, not a worker

	// Only the loop's goroutine uses the fields below.
	waitingFor     step // step that waits for the socket; stepEnd while lingering
	readable       bool // the socket may be readable
	hungUp         bool // the client has closed its side
	awaitingMemory bool // it waits for a share of the loop's memory
	closed         bool
	shareBytes     int         // bytes counted in the loop's memory
	sentBytes      int         // bytes of out and largeBody already written
	discardedBytes int         // bytes discarded after the answer
	workerWaiter   *wal.Waiter // outcome of what a worker appended
}

// postReason is why a loop looks at a connection, other than an event of its socket.
type postReason uint8

const (
	reasonNew      postReason = 1 << iota // the connection is new
	reasonDeadline                        // a deadline may have passed
	reasonPrepared                        // a worker has prepared its request
	reasonAppended                        // the append of a worker has ended, with or without an error
	reasonMore                            // there is more to do
	reasonDropped                         // it was dropped
)

// resume continues a connection that was posted.
func (l *loop) resume(c *conn, why postReason) {
	if why&reasonDeadline != 0 {
		l.now = time.Now() // the deadline may have passed after the turn began
	}
	if why&(reasonNew|reasonPrepared|reasonAppended) != 0 {
		c.ownedByLoop = true
	}
	switch {
	case c.dropped.Load(): // if a worker owns it, the loop closes it afterwards
		if c.ownedByLoop {
			l.drop(c)
		}
	case why&reasonNew != 0:
		l.begin(c)
	case why&reasonPrepared != 0:
		l.drive(c)
	case why&reasonAppended != 0:
		l.stored(c, c.workerWaiter.Outcomes(nil)[0].Err)
	case c.waitingFor == stepRead, c.waitingFor == stepWrite:
		l.drive(c)
	case c.waitingFor == stepEnd:
		l.discard(c)
	}
}

// begin registers a connection with the poller. It reads at once, since most clients have
// already sent something.
func (l *loop) begin(c *conn) {
	if err := l.poller.Add(c.fd); err != nil {
		l.server.opts.Logger.Error("a connection is closed: the event loop can't wait for it", "trouble", "event_loop", "error", err)
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
	l.attachWriteBuffer(c)
	c.stored(err)
	l.drive(c)
}

// drive continues a connection until it has to wait.
func (l *loop) drive(c *conn) {
	l.attachWriteBuffer(c)
	job := l.advance(c)
	l.reclaimBuffers(c)
	if job != stepRead {
		l.startWorker(c, job)
	}
}

// maxStepsInTurn is how often a connection is read or written before other connections are
// continued. One read can bring more than a hundred requests.
const maxStepsInTurn = 16

// advance executes steps until the connection has to wait. It returns a step for a
// worker, or stepRead for none.
func (l *loop) advance(c *conn) (job step) {
	for steps := 1; ; steps++ {
		if c.waitingFor == stepRead && !l.read(c) || c.waitingFor == stepWrite && !l.write(c) {
			return stepRead
		}
		switch c.waitingFor = c.next(); c.waitingFor {
		case stepRead, stepWrite:
			if steps >= maxStepsInTurn {
				l.post(c, reasonMore)
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
				l.reclaimBodyBuffer(c.request) // the log has copied it
				c.reduceToID()
				l.awaitCommit(c, commit)
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
	case c.socket.deadlinePassed(readDeadline, l.now):
		c.received(0, os.ErrDeadlineExceeded)
		return true
	case !c.readable:
		return false
	case c.readSpace == nil && !l.makeReadSpace(c):
		return false
	}
	n, err := epoll.Recv(c.fd, c.readSpace)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		c.readable = false
		return false
	case err != nil:
		c.received(0, socketError("read", err))
	case n == 0:
		c.received(0, io.EOF)
	default:
		c.readable = n == len(c.readSpace) || c.hungUp // a partly filled space means an empty socket
		c.received(n, nil)
	}
	return true
}

// write reports whether it has ended: with all bytes written, or with an error.
func (l *loop) write(c *conn) bool {
	if len(c.largeBody) > 0 && c.sentBytes == 0 {
		setSendBuffer(uintptr(c.fd), largeSendBufferBytes)
	}
	for {
		var rest []byte
		if c.sentBytes < len(c.out) {
			rest = c.out[c.sentBytes:]
		} else {
			rest = c.largeBody[c.sentBytes-len(c.out):]
		}
		if len(rest) == 0 {
			if len(c.largeBody) > 0 {
				setSendBuffer(uintptr(c.fd), sendBufferBytes)
			}
			c.sentBytes = 0
			c.written(nil)
			return true
		}
		n, err := 0, os.ErrDeadlineExceeded
		if !c.socket.deadlinePassed(writeDeadline, l.now) {
			n, err = epoll.Send(c.fd, rest)
		}
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			c.written(err)
			return true
		}
		c.sentBytes += n
	}
}

// end closes a connection. If the client may still be sending, it lingers first: see
// conn.linger.
func (l *loop) end(c *conn) {
	c.releaseRequest()
	c.releaseLargeBody()
	c.in, c.consumed, c.out = nil, 0, nil // unconsumed bytes no longer count in its share
	if c.unwritable || c.hold.Load() == holdTaken || !c.clientMaySend {
		l.close(c)
		return
	}
	c.enter(stateLingering)
	if c.socket.CloseWrite() != nil {
		l.close(c)
		return
	}
	l.post(c, reasonMore)
}

// drop closes a connection that was dropped.
func (l *loop) drop(c *conn) {
	c.rejectDropped()
	resetOnClose(uintptr(c.fd))
	l.end(c) // it does not linger, since hold is holdTaken
	l.reclaimBuffers(c)
}

// discard reads and drops what a client sends while its connection lingers.
func (l *loop) discard(c *conn) {
	n, err := epoll.Recv(c.fd, l.readBuf)
	c.discardedBytes += n
	switch {
	case c.socket.deadlinePassed(readDeadline, l.now), n == 0 && !errors.Is(err, syscall.EAGAIN), c.discardedBytes >= lingerBytes:
		l.close(c)
	case n > 0:
		l.post(c, reasonMore) // other connections have their turn first
	default:
		c.readable = false
	}
}

func (l *loop) close(c *conn) {
	c.closed = true
	if c.fd < len(l.conns) {
		l.conns[c.fd] = nil
	}
	l.connCount.Add(-1)
	c.dropUnreadAnswer(uintptr(c.fd))
	_ = c.net.Close()
	c.registry.remove(c)
}

// isQuick reports whether preparing the request takes only microseconds and never waits.
func (c *conn) isQuick() bool {
	r := c.request
	return r.coding == identity && len(r.rawBody) <= unbudgetedBytes && bytes.Count(r.rawBody, []byte("{")) <= unbudgetedUsages
}
