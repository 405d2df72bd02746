package udpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"collectord/collectord/histogram"
	"collectord/collectord/usage"
	"collectord/wal"
)

// Options set up a Server. The zero value of each field stands
// for its default.
type Options struct {
	Limits        Limits
	MaxDatagram   int // bytes; default 64 KiB, more than UDP can carry without jumbograms
	Sockets       int // for each address; default: one a core, at most 4
	ReceiveBuffer int // bytes the kernel keeps, of all sockets together; default 16 MiB
	// Kept says that another descriptor keeps the sockets open. What is still in
	// them when this server closes is left to who reads them next.
	Kept bool
	// Inherited says that a server before this one read them, and reported the
	// drops so far.
	Inherited bool
	// Logger is told of everything that goes wrong and right again; default: none.
	// What can repeat carries the attribute "trouble" with a name of its own, and
	// so does the Info line that says it is over, so that a handler can sum up.
	Logger *slog.Logger
}

// SocketsOfAddress returns how many sockets share an address.
func (o Options) SocketsOfAddress() int { return o.withDefaults().Sockets }

// Limits are those that can change while datagrams are read.
type Limits struct {
	Allow     []netip.Prefix // who may send; none means everyone
	MaxRecord int            // bytes of a usage; default 1 MiB
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.withDefaults()
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

func (l Limits) withDefaults() Limits {
	if l.MaxRecord == 0 {
		l.MaxRecord = 1 << 20
	}
	return l
}

// Reasons for which datagrams are rejected, beside the codes of usages.
const (
	ReasonNotAllowed = "not_allowed"
	ReasonTruncated  = "truncated"
)

// Server reads datagrams, each of one or several JSON objects, and never answers.
type Server struct {
	log       Log
	opts      Options
	limits    atomic.Pointer[Limits]
	buffer    int // bytes of all receive buffers, as the kernel gave them
	readers   []*reader
	running   sync.WaitGroup
	draining  chan struct{} // closed by Drain
	stop      int           // a descriptor that can be read then
	watch     watch
	datagrams atomic.Uint64
	bytes     atomic.Uint64
	batches   *histogram.Histogram
}

// New makes a server on sockets made by Listen, by this process or by one
// before it, and sets their receive buffers. The sockets are its own from now on,
// also if it fails; their conns are of no further use.
func New(log Log, conns []*net.UDPConn, o Options) (_ *Server, err error) {
	u := &Server{log: log, opts: o.withDefaults(), draining: make(chan struct{}), batches: histogram.New(1, 1, 6)}
	for _, reason := range append(usage.Codes(), ReasonNotAllowed, ReasonTruncated) {
		log.Reject(wal.UDP, reason, 0)
	}
	u.SetLimits(o.Limits)
	if u.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("udp listener: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, u.free())
		}
	}()
	for _, c := range conns {
		socket, err := takeSocket(c, u.stop)
		if err != nil {
			return nil, fmt.Errorf("udp listener %s: %w", c.LocalAddr(), err)
		}
		r := &reader{server: u, socket: socket}
		u.readers = append(u.readers, r)
		if r.buffer, err = setReceiveBuffer(socket.fd(), u.opts.ReceiveBuffer/len(conns)); err != nil {
			return nil, fmt.Errorf("udp listener %s: %w", socket.addr, err)
		}
		if r.batch, err = newDatagrams(u.opts.MaxDatagram); err != nil {
			return nil, fmt.Errorf("udp listener %s: %w", socket.addr, err)
		}
		u.buffer += r.buffer
	}
	if u.opts.Inherited {
		u.watch.drops = u.KernelDrops()
	}
	if wanted := u.opts.ReceiveBuffer - len(conns); len(conns) > 0 && u.buffer < wanted { // each may be short of a byte by division
		u.opts.Logger.Warn("the kernel gave smaller receive buffers than udp.receive_buffer asks for: raise net.core.rmem_max, or bursts are lost",
			"asked", u.opts.ReceiveBuffer, "given", u.buffer, "sockets", len(conns))
	}
	return u, nil
}

// free closes what the server holds.
func (u *Server) free() error {
	var errs []error
	for _, r := range u.readers {
		errs = append(errs, r.socket.close())
		if r.batch != nil {
			errs = append(errs, r.batch.free())
		}
	}
	return errors.Join(append(errs, unix.Close(u.stop))...)
}

// SetLimits changes the limits, for what is read from now on.
func (u *Server) SetLimits(l Limits) {
	l = l.withDefaults()
	u.limits.Store(&l)
}

// Start reads until Drain.
func (u *Server) Start() {
	for _, r := range u.readers {
		u.running.Go(r.run)
	}
	u.running.Go(u.runWatch)
}

// Drain stops listening, reads what the kernel holds, until it holds nothing or
// ctx ends, hands it to the log, and closes the sockets. What is sent from the
// moment on in which it stops is refused by the kernel, as it is when nobody
// listens; what was sent before is read or counted as dropped, all of it. Kept
// sockets go on listening.
func (u *Server) Drain(ctx context.Context) error {
	close(u.draining)
	_, err := unix.Write(u.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // ends the readers' waits
	if err != nil {
		return fmt.Errorf("stop reading datagrams: %w", err)
	}
	u.running.Wait()
	var errs []error
	if !u.opts.Kept {
		for _, r := range u.readers {
			if err := r.socket.stopListening(); err != nil {
				errs = append(errs, fmt.Errorf("stop listening on %s: %w", r.socket.addr, err))
			}
		}
	}
	for _, r := range u.readers {
		errs = append(errs, r.drain(ctx))
	}
	u.look()
	return errors.Join(append(errs, u.free())...)
}

// Datagrams returns how many datagrams, of how many bytes, were read.
func (u *Server) Datagrams() (n, size uint64) { return u.datagrams.Load(), u.bytes.Load() }

// Batches returns how many datagrams were read at a time.
func (u *Server) Batches() histogram.Distribution { return u.batches.Distribution() }

// ReceiveBuffer returns how many bytes the kernel keeps, of all sockets together.
func (u *Server) ReceiveBuffer() int { return u.buffer }

// KernelDrops returns how many datagrams the kernel dropped because a receive
// buffer was full, since the sockets were made: where they outlive a process, the
// next one goes on from what the last one told.
func (u *Server) KernelDrops() (total uint64) {
	for _, r := range u.readers {
		total += r.socket.lookAtDrops()
	}
	return total
}

// take hands the usages of the first n datagrams over, all at once.
func (r *reader) take(n int, limits *Limits) {
	size := 0
	r.recs = r.recs[:0]
	for i := range n {
		body, truncated := r.batch.datagram(i)
		size += len(body)
		switch {
		case len(limits.Allow) > 0 && !contain(limits.Allow, r.batch.sender(i)):
			r.rejected.Add(ReasonNotAllowed)
		case truncated:
			r.rejected.Add(ReasonTruncated)
		default:
			r.split(body, limits.MaxRecord)
		}
	}
	r.server.datagrams.Add(uint64(n))
	r.server.bytes.Add(uint64(size))
	r.server.batches.Observe(uint64(n))
	// The log counts what it does not take; that its queue is full nobody else tells.
	if left := len(r.recs) - r.server.log.Enqueue(r.recs...); left > 0 && r.server.log.Full() == nil {
		r.server.watch.note(wal.ReasonOverloaded, left)
	}
	r.batch.forget(size)
	for _, c := range r.rejected {
		r.server.log.Reject(wal.UDP, c.Code, c.N)
		r.server.watch.note(c.Code, c.N)
	}
	r.rejected = r.rejected[:0]
}

// split takes the usages out of a datagram.
func (r *reader) split(datagram []byte, maxRecord int) {
	s := &r.splitter
	s.Reset(datagram, usage.Datagram, usage.Limits{Record: maxRecord})
	for s.Next() {
		if code := s.Value.Fault.Code; code != "" {
			r.rejected.Add(code)
			continue
		}
		r.recs = append(r.recs, wal.Record{Usage: s.Value.Usage, Source: wal.UDP})
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
