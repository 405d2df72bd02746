package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// udpReader reads one socket.
type udpReader struct {
	door  *UDP
	conn  *net.UDPConn
	raw   syscall.RawConn
	batch *datagrams
	recs  []wal.Record
	why   []reason // refused in this batch
	drops drops
}

// readPause is how long a reader waits after an error, so that one that stays
// does not keep a core busy.
const readPause = 10 * time.Millisecond

func (r *udpReader) run() {
	failing := false
	for {
		n, err := r.batch.receive(r.raw.Read)
		switch {
		case err == nil:
			if failing {
				failing = false
				r.door.opts.Logger.Info("datagrams are read again", "trouble", "udp_read", "address", r.conn.LocalAddr())
			}
			r.take(n)
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return
		default:
			failing = true
			r.door.opts.Logger.Warn("reading a datagram failed", "trouble", "udp_read", "address", r.conn.LocalAddr(), "error", err)
			select {
			case <-time.After(readPause):
			case <-r.door.draining:
			}
		}
		select {
		case <-r.door.draining:
			return
		default:
		}
	}
}

// drain reads without waiting until the socket is empty.
func (r *udpReader) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := r.batch.receiveNow(r.raw.Control)
		switch {
		case err == nil:
			r.take(n)
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EHOSTUNREACH):
			// told of something that this socket is supposed to have sent: go on
		default:
			return fmt.Errorf("drain udp listener %s: %w", r.conn.LocalAddr(), err)
		}
	}
	return ctx.Err()
}
