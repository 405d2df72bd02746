package httpserver

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sweepEvery is how exact a connection's deadlines are.
const sweepEvery = 250 * time.Millisecond

// connections are the server's open ones, swept for deadlines that have passed.
// The kernel's poller need not hear of the deadline of each state of a request
// then: they were a tenth of what a request costs.
type connections struct {
	epoch  time.Time // deadlines count from here, whatever the wall clock does
	server *Server

	closing atomic.Bool  // who is idle from now on ends
	leaving atomic.Int32 // are turned away and not closed yet; changed with mu held
	room    roomCounters

	mu        sync.Mutex // guards what follows
	open      map[*conn]struct{}
	plain     crowd         // of those open
	secure    crowd         // of those open: over TLS
	relieves  bool          // who makes room now does so because memory is short
	relieving int           // of those open: have to for that
	freed     *sync.Cond    // with mu: a descriptor was closed
	timer     *time.Timer   // runs while connections are open
	none      chan struct{} // somebody waits for the last to close
}

// closed returns what is closed once no connection is open. Those that are idle end now,
// and those that say nothing.
func (s *connections) closed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	none := make(chan struct{})
	if len(s.open) == 0 {
		close(none)
		return none
	}
	s.none = none
	s.closing.Store(true)
	for c := range s.open {
		if c.idleSince.Load() != 0 && !unread(c.raw) { // or else it is answered, and ends with that
			c.end()
		}
	}
	return none
}

// add takes in a connection, unless too many are open already and none of them
// can make room.
func (s *connections) add(c net.Conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := s.server.newConn(c)
	config := added.checked.Handshake(isLocal(c))
	if !s.findRoomLocked(config != nil) {
		return nil
	}
	if s.open == nil {
		s.open = map[*conn]struct{}{}
		s.timer = time.AfterFunc(sweepEvery, s.sweep)
	} else if len(s.open) == 0 {
		s.timer.Reset(sweepEvery)
	}
	if config != nil {
		added.startTLS(config)
	} else if socket, ok := c.(*socket); ok {
		socket.join(added, s.server.leastLoop())
	}
	s.open[added] = struct{}{}
	added.since = s.deadline(time.Now())
	added.idleSince.Store(added.since)
	of := s.crowdOf(added)
	of.open++
	of.strangers.push(added)
	return added
}

func (s *connections) count() (all, secure int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), s.secure.open
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
	s.server.wakeHungry()
	report = s.reportRoomLocked(now)
	if len(s.open) > 0 || s.room.reached {
		s.timer.Reset(sweepEvery)
	}
	return report
}

// deadline is t in nanoseconds since the epoch, or 0 for none.
func (s *connections) deadline(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return int64(t.Sub(s.epoch))
}

// MaxConnections returns how many connections may be open: what was configured,
// or fewer where MaxDescriptors allows no more.
func (h *Server) MaxConnections() int { return h.limits.Load().connections() }

// MaxTLSConnections returns how many of them may be over TLS.
func (h *Server) MaxTLSConnections() int { return h.limits.Load().secure() }

// awaitDescriptor waits until a listener may accept a connection, and reports
// false once the listener is closed. Accepting is the one thing that takes a
// descriptor whenever a stranger likes, so that it must not happen beyond
// MaxDescriptors: the log could open no file then.
//
// Each listener may accept one at a time, so that there may be one more for each:
// whoever sets MaxDescriptors counts that in.
func (s *connections) awaitDescriptor(closed *atomic.Bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !closed.Load() {
		limits := s.server.limits.Load()
		used := len(s.open) + int(s.leaving.Load())
		if limits.MaxDescriptors == 0 || used < limits.MaxDescriptors {
			return true
		}
		s.room.waits.Add(1)
		s.freed.Wait()
	}
	return false
}

// shrinkLocked has connections make room for which there are no descriptors any
// more: the limit was lowered.
func (s *connections) shrinkLocked() {
	most := s.server.limits.Load().bearable()
	for s.plain.held()+s.secure.held() > most && s.makeRoomLocked(most, &s.plain, &s.secure) {
	}
}

// wakeListeners has those that wait for a descriptor look again.
func (s *connections) wakeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freed.Broadcast()
}

// leave counts a connection that is turned away, if there is room to listen to it.
func (s *connections) leave() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving.Load() >= s.server.limits.Load().leaving() {
		return false
	}
	s.leaving.Add(1)
	return true
}

// left closes a connection that leave counted.
func (s *connections) left(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving.Add(-1)
	s.freed.Signal()
}
