package ingest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// limitedListener turns connections away once too many are open. It tells them
// so: a client that is merely cut off would not know to go elsewhere.
type limitedListener struct {
	net.Listener
	door *HTTP
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if added := l.door.open.add(c, l.door.opts.MaxConnections); added != nil {
			return added, nil
		}
		l.door.statuses[http.StatusServiceUnavailable].Add(1)
		turnAway(c)
	}
}

// turnAway answers without reading and without waiting for the client.
func turnAway(c net.Conn) {
	p := unavailable(CodeOverloaded, "too many connections are open (http.max_connections)")
	body := p.body()
	_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: %s\r\nRetry-After: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		problemType, p.header[1], len(body), body)
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_ = c.Close()
}

// sweepEvery is how exact a connection's deadlines are.
const sweepEvery = 250 * time.Millisecond

// connections are the door's open ones, swept for deadlines that have passed.
// The kernel's poller need not hear of each request's deadlines then, of which
// there are four: they were a tenth of what a request costs.
type connections struct {
	epoch time.Time // deadlines count from here, whatever the wall clock does

	mu    sync.Mutex
	open  map[*connection]struct{}
	timer *time.Timer // runs while connections are open
}

// add takes in a connection, unless limit are open already.
func (s *connections) add(c net.Conn, limit int) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= limit {
		return nil
	}
	if s.open == nil {
		s.open = map[*connection]struct{}{}
		s.timer = time.AfterFunc(sweepEvery, s.sweep)
	} else if len(s.open) == 0 {
		s.timer.Reset(sweepEvery)
	}
	added := &connection{Conn: c, all: s}
	s.open[added] = struct{}{}
	return added
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *connections) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	past := s.deadline(now)
	for c := range s.open {
		if t := c.readBy.Load(); t != 0 && t <= past {
			_ = c.Conn.SetReadDeadline(now)
		}
		if t := c.writeBy.Load(); t != 0 && t <= past {
			_ = c.Conn.SetWriteDeadline(now)
		}
	}
	if len(s.open) > 0 {
		s.timer.Reset(sweepEvery)
	}
}

// connection leaves its deadlines to the sweep: one that has passed ends what
// waits for it within sweepEvery, and can't be taken back after that.
type connection struct {
	net.Conn
	all             *connections
	readBy, writeBy atomic.Int64 // as deadline makes them
}

func (c *connection) SetReadDeadline(t time.Time) error {
	c.readBy.Store(c.all.deadline(t))
	return nil
}

func (c *connection) SetWriteDeadline(t time.Time) error {
	c.writeBy.Store(c.all.deadline(t))
	return nil
}

func (c *connection) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// deadline is t in nanoseconds since the epoch, or 0 for none.
func (s *connections) deadline(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return int64(t.Sub(s.epoch))
}

func (c *connection) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// Close may follow another: the daemon stops listening before it shuts down.
func (l *limitedListener) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
