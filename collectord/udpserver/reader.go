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

// reader reads one socket on a goroutine of its own, and passes the usages to the log.
type reader struct {
	server  *Server
	socket  *socket
	buffer  int // size of the kernel's receive buffer in bytes
	batch   *messages
	records []wal.Record

	splitter usage.Splitter
	rejected usage.Counts // in the current batch
}

// A fast reader would wake up for every second datagram, which costs several times as
// much as reading one (measured). It would also make the committer sync small batches.
// After a batch of several messages the reader therefore waits for gatherTime. It does
// so only if the receive buffer is at least gatherMinBuffer bytes, enough for many times
// the datagrams of that period.
const (
	gatherTime      = 2 * time.Millisecond
	gatherMinBuffer = 2 << 20
)

// busyCheckBatches is the number of consecutive full batches after which a reader checks
// whether it falls behind.
const busyCheckBatches = 8

// readPause is the wait after a read error, so that a persistent error does not use a
// full core.
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
	fullBatches := 0 // consecutive full batches
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
		r.ingest(n, limits)
		if fullBatches++; n < batchSize {
			fullBatches = 0
		} else if fullBatches%busyCheckBatches == 0 && r.socket.receiveQueueBusy() {
			r.server.log.YieldToIngest()
		}
		if n > 1 && n < batchSize && r.buffer >= gatherMinBuffer {
			pause(gatherTime)
		}
	}
}

// receive reads a batch, and returns the limits that apply to it.
func (r *reader) receive() (n int, limits *Limits, err error) {
	limits = r.server.limits.Load()
	n, err = r.batch.receive(r.socket.fd(), len(limits.Allow) > 0)
	return n, limits, err
}

// drain reads without waiting, until the socket is empty or ctx ends.
func (r *reader) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		n, limits, err := r.receive()
		switch {
		case err == nil:
			r.ingest(n, limits)
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EHOSTUNREACH):
			// An ICMP error for a datagram that this socket seems to have sent: ignore
			// it.
		default:
			return fmt.Errorf("drain udp listener %s: %w", r.socket.addr, err)
		}
	}
	return ctx.Err()
}
