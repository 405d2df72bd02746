package httpserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"collectord/collectord/auth"
)

// limitedListener turns connections away once too many are open. It tells them
// so: a client that is merely cut off would not know to go elsewhere.
type limitedListener struct {
	net.Listener
	door   *Server
	closed atomic.Bool
}

func (l *limitedListener) Accept() (net.Conn, error) {
	failing := false
	for {
		if !l.door.open.awaitDescriptor(&l.closed) {
			return nil, net.ErrClosed
		}
		c, err := l.Listener.Accept()
		if isPassing(err) {
			failing = true
			l.door.opts.Logger.Error("can't accept connections: the kernel or the process lacks what the error names (if it is open files, raise LimitNOFILE=)", "trouble", "accept", "address", l.Addr(), "error", err)
			<-time.After(acceptPause)
			continue
		}
		if err != nil {
			return nil, err
		}
		if failing {
			failing = false
			l.door.opts.Logger.Info("connections are accepted again", "trouble", "accept", "address", l.Addr())
		}
		if added := l.door.open.add(c, l.door); added != nil {
			return added, nil
		}
		l.door.statuses[http.StatusServiceUnavailable].Add(1)
		l.door.open.room.away.Add(1)
		l.door.open.turnAway(c, l.door.policy.Load().Handshake(isLocal(c)))
	}
}

// Close may follow another.
func (l *limitedListener) Close() error {
	l.closed.Store(true)
	l.door.open.wakeListeners()
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// ears are the door's listeners.
type ears struct {
	mu     sync.Mutex // guards what follows
	all    []net.Listener
	closed bool
}

// add returns ln, which it closes if it comes too late.
func (e *ears) add(ln net.Listener) net.Listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		_ = ln.Close()
	}
	e.all = append(e.all, ln)
	return ln
}

func (e *ears) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, ln := range e.all {
		_ = ln.Close() // closed once more by the server
	}
}

// acceptPause is how long a listener waits for others to give back what it lacks.
const acceptPause = 100 * time.Millisecond

// isPassing reports whether accept(2) may work again by itself. The server would
// give up.
func isPassing(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// sweepEvery is how exact a connection's deadlines are.
const sweepEvery = 250 * time.Millisecond

// connections are the door's open ones, swept for deadlines that have passed.
// The kernel's poller need not hear of the deadline of each state of a request
// then: they were a tenth of what a request costs.
type connections struct {
	epoch time.Time // deadlines count from here, whatever the wall clock does
	door  *Server

	leaving atomic.Int32 // are turned away and not closed yet; changed with mu held
	room    roomCounters

	mu        sync.Mutex // guards what follows
	open      map[*connection]struct{}
	strangers queue       // of those open: no request was authenticated or stored
	clients   queue       // the others; those that are ending are in neither
	ending    int         // of those open: had to make room
	freed     *sync.Cond  // with mu: a descriptor was closed
	timer     *time.Timer // runs while connections are open
}

// add takes in a connection, unless too many are open already and none of them
// can make room.
func (s *connections) add(c net.Conn, door *Server) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if most := door.limits.Load().connections(); len(s.open)-s.ending >= most && !s.makeRoomLocked(most) {
		return nil
	}
	if s.open == nil {
		s.open = map[*connection]struct{}{}
		s.timer = time.AfterFunc(sweepEvery, s.sweep)
	} else if len(s.open) == 0 {
		s.timer.Reset(sweepEvery)
	}
	added := &connection{Conn: c, raw: c, all: s, door: door, checked: door.policy.Load()}
	if config := added.checked.Handshake(isLocal(c)); config != nil {
		added.startTLS(config)
	}
	s.open[added] = struct{}{}
	added.since = s.deadline(time.Now())
	s.strangers.push(added)
	return added
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// sweep logs last, without the mutex: a log that is slow delays no deadline.
func (s *connections) sweep() {
	if report := s.sweepAll(time.Now()); report != nil {
		report()
	}
}

func (s *connections) sweepAll(now time.Time) (report func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	past := s.deadline(now)
	for c := range s.open {
		c.expire(past, now)
	}
	s.shrinkLocked()
	report = s.reportRoomLocked(now)
	if len(s.open) > 0 || s.room.reached {
		s.timer.Reset(sweepEvery)
	}
	return report
}

// connection leaves its deadline to the sweep: one that has passed ends what waits
// within sweepEvery.
type connection struct {
	net.Conn  // what is read and written: in plaintext, also with TLS
	raw       net.Conn
	secure    *tls.Conn       // nil without TLS
	limit     *handshakeLimit // of secure
	all       *connections
	door      *Server
	standing               // who makes room first
	idleSince atomic.Int64 // as deadline makes it; 0 while a request is under way

	mu      sync.Mutex // guards what follows
	by      int64      // the state's deadline, as deadline makes it; 0: none
	expired bool       // Conn has been told that it has passed
	last    bool       // the connection ends with the current request
	cut     bool       // made room: no state has time any more

	// What follows belongs to the goroutine that serves the connection.
	state         state
	requests      uint64 // that have begun
	framing       framing
	hungUp        bool        // the client sends no more
	linger        atomic.Bool // the client may be sending still
	handshakeDone bool        // the handshake is over

	peers     []*x509.Certificate // the client's, and those between it and its root
	client    string              // whom they name
	checked   *auth.Policy        // under which they were, at first in the handshake
	untrusted auth.Reason         // what came of it
}

// Read notes where requests begin in what is read. The first Read of a TLS
// connection is its handshake.
func (c *connection) Read(p []byte) (int, error) {
	if c.secure != nil && !c.handshakeDone && c.shakeHands() != nil {
		return 0, io.EOF // there is nobody to answer
	}
	n, err := c.Conn.Read(p)
	c.hungUp = errors.Is(err, io.EOF)
	c.framing.add(p[:n])
	return n, err
}

// deadline is t in nanoseconds since the epoch, or 0 for none.
func (s *connections) deadline(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return int64(t.Sub(s.epoch))
}

// Close counts the connection as open until its descriptor is closed.
func (c *connection) Close() error {
	c.mu.Lock()
	c.by = 0 // the sweep must not end the time to linger
	c.mu.Unlock()
	ends := c.Conn
	switch {
	case c.hold.Load() == taken:
		ends = c.raw // TLS would wait to say goodbye
	case c.linger.Load():
		c.lingerOn()
	}
	err := ends.Close()
	c.all.remove(c)
	return err
}

// Bounds on how long a client is listened to that was refused while it sent.
const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// lingerOn reads what the client still sends. To close on it would reset the
// connection, and the answer might never be read (RFC 9112, section 9.6).
func (c *connection) lingerOn() {
	ends := c.Conn
	if !c.handshakeDone { // TLS can't take leave before it has begun
		ends = c.raw
	}
	half, ok := ends.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.raw.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.raw, lingerBytes) // whatever it sends
}
