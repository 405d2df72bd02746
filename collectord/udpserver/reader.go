package udpserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/usage"
	"collectord/wal"
)

// reader reads one socket.
type reader struct {
	server *Server
	socket *socket
	buffer int // bytes the kernel keeps
	batch  *datagrams
	recs   []wal.Record

	splitter usage.Splitter
	rejected usage.Counts // of this batch
}

// A reader that is faster than the senders would be woken for every other
// datagram, which costs several times what reading one does, and so would the
// committer, which syncs what it finds (both measured). Where some come at a time
// it waits a little, so that more do: gatherTime, if the receive buffer is
// gatherBuffer or more, which holds many times what comes in meanwhile.
const (
	gatherTime   = 2 * time.Millisecond
	gatherBuffer = 2 << 20
)

// busyLook is after how many full batches in a row a reader looks whether it falls
// behind.
const busyLook = 8

// readPause is how long a reader waits after an error, so that one that stays
// does not keep a core busy.
const readPause = 10 * time.Millisecond

func (r *reader) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	pause := func(d time.Duration) {
		timer.Reset(d)
		select {
		case <-timer.C:
		case <-r.server.draining:
		}
	}
	full := 0 // batches in a row
	for failing := false; ; {
		select {
		case <-r.server.draining:
			return
		default:
		}
		n, limits, err := r.receive()
		if errors.Is(err, unix.EAGAIN) {
			if err = r.socket.wait(); err == nil {
				continue
			}
		}
		if err != nil {
			failing = true
			r.server.opts.Logger.Warn("reading a datagram failed", "trouble", "udp_read", "address", r.socket.addr, "error", err)
			pause(readPause)
			continue
		}
		if failing {
			failing = false
			r.server.opts.Logger.Info("datagrams are read again", "trouble", "udp_read", "address", r.socket.addr)
		}
		r.take(n, limits)
		if full++; n < batchSize {
			full = 0
		} else if full%busyLook == 0 && r.socket.receiveQueueBusy() {
			r.server.log.YieldToIngest()
		}
		if n > 1 && n < batchSize && r.buffer >= gatherBuffer {
			pause(gatherTime)
		}
	}
}

// receive reads a batch, to be taken by the limits that hold now.
func (r *reader) receive() (n int, limits *Limits, err error) {
	limits = r.server.limits.Load()
	n, err = r.batch.receive(r.socket.fd(), len(limits.Allow) > 0)
	return n, limits, err
}

// drain reads without waiting until the socket is empty.
func (r *reader) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		n, limits, err := r.receive()
		switch {
		case err == nil:
			r.take(n, limits)
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EHOSTUNREACH):
			// told of something that this socket is supposed to have sent: go on
		default:
			return fmt.Errorf("drain udp listener %s: %w", r.socket.addr, err)
		}
	}
	return ctx.Err()
}
