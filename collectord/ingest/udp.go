package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// UDPOptions set the limits of the UDP door. The zero value of each field stands
// for its default.
type UDPOptions struct {
	Allow         []netip.Prefix // who may send; none means anyone the listener can hear
	MaxDatagram   int            // bytes; default 64 KiB, more than UDP can carry without jumbograms
	Sockets       int            // for each address; default: one a core, at most 4
	ReceiveBuffer int            // bytes the kernel keeps, of all sockets together; default 16 MiB
	Logger        *slog.Logger   // as in HTTPOptions
}

func (o UDPOptions) withDefaults() UDPOptions {
	if o.MaxDatagram == 0 {
		o.MaxDatagram = 64 << 10
	}
	if o.Sockets == 0 {
		o.Sockets = min(4, runtime.NumCPU())
	}
	if o.ReceiveBuffer == 0 {
		o.ReceiveBuffer = 16 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Reasons for which datagrams are refused beside the codes of usages.
const (
	ReasonNotAllowed = "not_allowed"
	ReasonTruncated  = "truncated"
)

// ListenUDP binds the sockets for one address. The kernel spreads senders over
// them; one sender always lands on the same.
func ListenUDP(addr netip.AddrPort, o UDPOptions) (conns []*net.UDPConn, err error) {
	o = o.withDefaults()
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6" // not also IPv4
	}
	each := o.ReceiveBuffer / o.Sockets
	given := each
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var sockErr error
		err := raw.Control(func(fd uintptr) {
			sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, each) != nil {
				sockErr = errors.Join(sockErr, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, each))
			}
			if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
				given = min(given, n/2) // the kernel doubles it for its bookkeeping (socket(7))
			}
		})
		return errors.Join(err, sockErr)
	}}
	for range o.Sockets {
		pc, err := lc.ListenPacket(context.Background(), network, addr.String())
		if err != nil {
			for _, c := range conns {
				err = errors.Join(err, c.Close())
			}
			return nil, fmt.Errorf("udp listener: %w", err)
		}
		c := pc.(*net.UDPConn) //nolint:forcetypeassert // what ListenPacket returns for udp
		addr = c.LocalAddr().(*net.UDPAddr).AddrPort()
		conns = append(conns, c)
	}
	if given < each {
		o.Logger.Warn("the kernel gave a smaller receive buffer than udp.receive_buffer asks for: raise net.core.rmem_max, or bursts are lost",
			"address", addr, "asked", each*o.Sockets, "given", given*o.Sockets)
	}
	return conns, nil
}

// UDP is the door that never answers: JSON objects, one or several a datagram.
type UDP struct {
	log       Log
	opts      UDPOptions
	allow     atomic.Pointer[[]netip.Prefix]
	readers   []*udpReader
	running   sync.WaitGroup
	draining  atomic.Bool
	datagrams atomic.Uint64
	bytes     atomic.Uint64
	batches   *wal.Histogram
}

// NewUDP makes a door on sockets made by ListenUDP, which it closes in the end.
func NewUDP(log Log, conns []*net.UDPConn, o UDPOptions) (*UDP, error) {
	u := &UDP{log: log, opts: o.withDefaults(), batches: wal.NewHistogram(1, 1, 6)}
	for _, reason := range append(usageCodes(), ReasonNotAllowed, ReasonTruncated) {
		log.Reject(wal.UDP, reason, 0)
	}
	u.SetAllow(o.Allow)
	for _, c := range conns {
		raw, err := c.SyscallConn()
		if err != nil {
			return nil, fmt.Errorf("udp listener %s: %w", c.LocalAddr(), err)
		}
		batch, err := newDatagrams(u.opts.MaxDatagram)
		if err != nil {
			return nil, fmt.Errorf("udp listener %s: %w", c.LocalAddr(), err)
		}
		u.readers = append(u.readers, &udpReader{door: u, conn: c, raw: raw, batch: batch, why: map[string]int{}})
	}
	return u, nil
}

// SetAllow changes who may send, for what is read from now on.
func (u *UDP) SetAllow(networks []netip.Prefix) { u.allow.Store(&networks) }

// Start reads until Drain.
func (u *UDP) Start() {
	for _, r := range u.readers {
		u.running.Go(r.run)
	}
}

// Drain reads what the kernel holds, until it holds nothing or ctx ends, hands
// it to the log, and closes the sockets.
func (u *UDP) Drain(ctx context.Context) error {
	u.draining.Store(true)
	for _, r := range u.readers {
		if err := r.conn.SetReadDeadline(time.Now()); err != nil { // wakes the reader
			return err
		}
	}
	u.running.Wait()
	var errs []error
	for _, r := range u.readers {
		errs = append(errs, r.drain(ctx))
		r.lookAtDrops()
		errs = append(errs, r.conn.Close(), r.batch.free())
	}
	return errors.Join(errs...)
}

// Datagrams returns how many datagrams, of how many bytes, were read.
func (u *UDP) Datagrams() (n, size uint64) { return u.datagrams.Load(), u.bytes.Load() }

// Batches returns how many datagrams were read at a time.
func (u *UDP) Batches() wal.Distribution { return u.batches.Distribution() }

// KernelDrops returns how many datagrams the kernel dropped because a receive
// buffer was full.
func (u *UDP) KernelDrops() (total uint64) {
	for _, r := range u.readers {
		total += r.lookAtDrops()
	}
	return total
}

// udpReader reads one socket.
type udpReader struct {
	door  *UDP
	conn  *net.UDPConn
	raw   syscall.RawConn
	batch *datagrams
	recs  []wal.Record
	why   map[string]int // refused in this batch, by reason

	drops struct {
		sync.Mutex
		last  uint32 // as the kernel told it, which wraps
		total uint64
	}
}

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
		default: // such as ECONNREFUSED, from an answer somebody else provoked
			failing = true
			r.door.opts.Logger.Warn("reading a datagram failed", "trouble", "udp_read", "address", r.conn.LocalAddr(), "error", err)
		}
		if r.door.draining.Load() {
			return
		}
	}
}

// drain reads without waiting until the socket is empty.
func (r *udpReader) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := r.batch.receiveNow(r.raw.Control)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("drain udp listener %s: %w", r.conn.LocalAddr(), err)
		}
		r.take(n)
	}
	return ctx.Err()
}

// take hands the usages of the first n datagrams over, all at once.
func (r *udpReader) take(n int) {
	size := 0
	r.recs = r.recs[:0]
	allow := *r.door.allow.Load()
	for i := range n {
		body, truncated := r.batch.datagram(i)
		size += len(body)
		switch {
		case len(allow) > 0 && !contain(allow, r.batch.sender(i)):
			r.why[ReasonNotAllowed]++
		case truncated:
			r.why[ReasonTruncated]++
		default:
			r.split(body)
		}
	}
	r.door.datagrams.Add(uint64(n))
	r.door.bytes.Add(uint64(size))
	r.door.batches.Observe(uint64(n))
	r.door.log.Enqueue(r.recs...)
	for reason, n := range r.why {
		r.door.log.Reject(wal.UDP, reason, n)
		delete(r.why, reason)
	}
}

// split finds the usages in a datagram. After a bad one it goes on behind the
// next line break.
func (r *udpReader) split(body []byte) {
	for first := true; first || skipSpace(body, 0) < len(body); first = false {
		usage, rest, fault := checkUsage(body)
		if fault == nil {
			r.recs = append(r.recs, wal.Record{Usage: usage, Source: wal.UDP})
			body = rest
			continue
		}
		r.why[fault.code]++
		next := bytes.IndexByte(body[fault.offset:], '\n')
		if next < 0 {
			return
		}
		body = body[fault.offset+next+1:]
	}
}

func contain(networks []netip.Prefix, sender netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(sender) {
			return true
		}
	}
	return false
}

// lookAtDrops asks the kernel and returns the sum so far.
func (r *udpReader) lookAtDrops() uint64 {
	r.drops.Lock()
	defer r.drops.Unlock()
	now, err := kernelDrops(r.raw)
	if err == nil { // a closed socket tells nothing new
		r.drops.total += uint64(now - r.drops.last)
		r.drops.last = now
	}
	return r.drops.total
}
