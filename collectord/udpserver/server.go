package udpserver

import (
	"cmp"
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

// Options configures a Server. The zero value of each field means its default.
type Options struct {
	Limits        Limits
	MaxDatagram   int // bytes; default 64 KiB, more than UDP can transmit without jumbograms
	Sockets       int // per address; default: one per core, at most 4
	ReceiveBuffer int // bytes of all sockets' receive buffers in total; default 16 MiB
	// KeptOpen means that another descriptor keeps the sockets open. Datagrams that remain
	// in them after this server closes are left to the next reader.
	KeptOpen bool
	// Inherited means that an earlier server read the sockets and reported the drops so
	// far.
	Inherited bool
	// Logger receives each problem and its end; default: none. A line that can repeat
	// has the attribute "trouble" with a unique name. The Info line for its end has the
	// same attribute, so that a handler can summarize them.
	Logger *slog.Logger
}

// SocketsPerAddress returns the number of sockets per address.
func (o Options) SocketsPerAddress() int { return o.withDefaults().Sockets }

// Limits are the limits that can change while the server runs.
type Limits struct {
	Allow     []netip.Prefix // allowed source addresses; empty means all
	MaxRecord int            // bytes per usage; default 1 MiB
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.withDefaults()
	o.MaxDatagram = cmp.Or(o.MaxDatagram, 64<<10)
	o.Sockets = cmp.Or(o.Sockets, min(4, runtime.NumCPU()))
	o.ReceiveBuffer = cmp.Or(o.ReceiveBuffer, 16<<20)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

func (l Limits) withDefaults() Limits {
	l.MaxRecord = cmp.Or(l.MaxRecord, 1<<20)
	return l
}

// Reasons for rejected datagrams, in addition to the codes of package usage.
const (
	ReasonNotAllowed = "not_allowed"
	ReasonTruncated  = "truncated"
)

// Server reads datagrams, each with one or more JSON objects. It never responds.
type Server struct {
	log           Log
	opts          Options
	limits        atomic.Pointer[Limits]
	receiveBuffer int // bytes of all receive buffers, as granted by the kernel
	readers       []*reader
	running       sync.WaitGroup
	draining      chan struct{} // closed by Drain
	stopEvent     int           // an eventfd that becomes readable when Drain begins
	watch         watch
	datagrams     atomic.Uint64
	bytes         atomic.Uint64
	batches       *histogram.Histogram
}

// New creates a server from the sockets of Listen, and sets their receive buffers. The
// sockets may also come from an earlier process. New owns the sockets, even if it
// returns an error; the caller must not use conns any more.
func New(log Log, conns []*net.UDPConn, o Options) (_ *Server, err error) {
	u := &Server{log: log, opts: o.withDefaults(), draining: make(chan struct{}), batches: histogram.New(1, 1, 12)}
	for _, reason := range append(usage.Codes(), ReasonNotAllowed, ReasonTruncated) {
		log.Reject(wal.UDP, reason, 0)
	}
	u.SetLimits(o.Limits)
	if u.stopEvent, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("udp listener: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, u.free())
		}
	}()
	for _, c := range conns {
		socket, err := adoptSocket(c, u.stopEvent)
		if err != nil {
			return nil, fmt.Errorf("udp listener %s: %w", c.LocalAddr(), err)
		}
		r := &reader{server: u, socket: socket}
		u.readers = append(u.readers, r)
		if r.buffer, err = setReceiveBuffer(socket.fd(), u.opts.ReceiveBuffer/len(conns)); err != nil {
			return nil, fmt.Errorf("udp listener %s: %w", socket.addr, err)
		}
		if r.batch, err = newMessages(); err != nil {
			return nil, fmt.Errorf("udp listener %s: %w", socket.addr, err)
		}
		u.receiveBuffer += r.buffer
	}
	if u.opts.Inherited {
		for _, r := range u.readers {
			r.socket.inherit()
		}
		u.watch.drops = u.KernelDrops()
	}
	if wanted := u.opts.ReceiveBuffer - len(conns); len(conns) > 0 && u.receiveBuffer < wanted { // the division may lose up to one byte per socket
		u.opts.Logger.Warn("the kernel gave smaller receive buffers than udp.receive_buffer asks for: raise net.core.rmem_max, or bursts are lost",
			"asked", u.opts.ReceiveBuffer, "given", u.receiveBuffer, "sockets", len(conns))
	}
	return u, nil
}

// free closes all sockets and descriptors, and frees the memory.
func (u *Server) free() error {
	var errs []error
	for _, r := range u.readers {
		errs = append(errs, r.socket.close())
		if r.batch != nil {
			errs = append(errs, r.batch.free())
		}
	}
	return errors.Join(append(errs, unix.Close(u.stopEvent))...)
}

// SetLimits changes the limits for datagrams that are read from now on.
func (u *Server) SetLimits(l Limits) {
	l = l.withDefaults()
	u.limits.Store(&l)
}

// Start reads in the background until Drain.
func (u *Server) Start() {
	for _, r := range u.readers {
		u.running.Go(r.run)
	}
	u.running.Go(u.watchLosses)
}

// Drain stops listening, so that the kernel refuses new datagrams as for a closed port.
// Then it reads the remaining datagrams until the sockets are empty or ctx ends, passes
// their usages to the log, and closes the sockets. Each earlier datagram is read or
// counted as dropped, unless ctx ends first. With KeptOpen, the sockets continue to listen.
func (u *Server) Drain(ctx context.Context) error {
	close(u.draining)
	_, err := unix.Write(u.stopEvent, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // wakes the waiting readers
	if err != nil {
		return fmt.Errorf("stop reading datagrams: %w", err)
	}
	u.running.Wait()
	var errs []error
	if !u.opts.KeptOpen {
		for _, r := range u.readers {
			if err := r.socket.stopListening(); err != nil {
				errs = append(errs, fmt.Errorf("stop listening on %s: %w", r.socket.addr, err))
			}
		}
	}
	for _, r := range u.readers {
		errs = append(errs, r.drain(ctx))
	}
	u.checkLosses()
	return errors.Join(append(errs, u.free())...)
}

// Datagrams returns the number of datagrams read, and their total size in bytes.
func (u *Server) Datagrams() (n, size uint64) { return u.datagrams.Load(), u.bytes.Load() }

// Batches returns the distribution of the number of datagrams per read.
func (u *Server) Batches() histogram.Distribution { return u.batches.Distribution() }

// ReceiveBuffer returns the total size of the receive buffers in bytes.
func (u *Server) ReceiveBuffer() int { return u.receiveBuffer }

// ReceiveSpace returns how many bytes of memory the kernel may still use for datagrams that
// are not read.
func (u *Server) ReceiveSpace() (left int64) {
	for _, r := range u.readers {
		left += r.socket.space()
	}
	return left
}

// KernelDrops returns how many datagrams the kernel dropped because a receive buffer
// was full, since the sockets were created. The count continues when a new process
// inherits the sockets.
func (u *Server) KernelDrops() (total uint64) {
	for _, r := range u.readers {
		total += r.socket.dropped()
	}
	return total
}

// ingest passes the usages of the first n messages to the log, in one call.
func (r *reader) ingest(n int, limits *Limits) {
	size, datagrams := 0, 0
	r.records = r.records[:0]
	for i := range n {
		rest, datagramSize, truncated := r.batch.message(i)
		size += len(rest)
		allowed := len(limits.Allow) == 0 || containsSender(limits.Allow, r.batch.sender(i))
		for more := true; more; more = len(rest) > 0 { // once for an empty datagram
			datagram := rest
			if 0 < datagramSize && datagramSize < len(rest) {
				datagram = rest[:datagramSize:datagramSize]
			}
			rest = rest[len(datagram):]
			datagrams++
			switch {
			case !allowed:
				r.rejected.Add(ReasonNotAllowed)
			case truncated, len(datagram) > r.server.opts.MaxDatagram:
				r.rejected.Add(ReasonTruncated)
			default:
				r.split(datagram, limits.MaxRecord)
			}
		}
	}
	r.socket.messages.Add(uint64(n))
	r.socket.datagrams.Add(uint64(datagrams))
	r.server.datagrams.Add(uint64(datagrams))
	r.server.bytes.Add(uint64(size))
	r.server.batches.Observe(uint64(datagrams))
	// The log counts usages that it rejects. This server must log a full queue, because
	// no other component does.
	if left := len(r.records) - r.server.log.Enqueue(r.records...); left > 0 && r.server.log.Full() == nil {
		r.server.watch.count(wal.ReasonOverloaded, left)
	}
	r.batch.freeLargePages(size)
	for _, c := range r.rejected {
		r.server.log.Reject(wal.UDP, c.Code, c.N)
		r.server.watch.count(c.Code, c.N)
	}
	r.rejected = r.rejected[:0]
}

// split adds the usages of a datagram to r.records, and its faults to r.rejected.
func (r *reader) split(datagram []byte, maxRecord int) {
	s := &r.splitter
	s.Reset(datagram, usage.Datagram, usage.Limits{MaxUsageBytes: maxRecord})
	for s.Next() {
		if code := s.Value.Fault.Code; code != "" {
			r.rejected.Add(code)
			continue
		}
		r.records = append(r.records, wal.Record{Usage: s.Value.Usage, Source: wal.UDP})
	}
}

func containsSender(networks []netip.Prefix, sender netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(sender) {
			return true
		}
	}
	return false
}
