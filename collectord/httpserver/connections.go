package httpserver

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sweepEvery is the interval of the sweep, and so the max delay of a deadline.
const sweepEvery = 250 * time.Millisecond

// connections are the server's open connections. A periodic sweep enforces their
// deadlines, because setting each state's deadline in the kernel's poller took a tenth of
// a request's time.
type connections struct {
	epoch  time.Time // deadlines count from here, by the monotonic clock
	server *Server

	shuttingDown atomic.Bool  // connections that become idle are ended
	turningAway  atomic.Int32 // connections that are being turned away, until they are closed; changed with mu held
	room         roomCounters
	spareWanted  chan struct{} // has an element once a listener waits for spare memory

	mu               sync.Mutex // guards the fields below
	open             map[*conn]struct{}
	plain            connClass     // open connections without TLS
	secure           connClass     // open connections over TLS
	cuttingForMemory bool          // connections end now because memory is short
	endingForMemory  int           // open connections that end because memory is short
	dropping         int           // open connections that are dropped
	spare            spareMemory   // memory of the control group
	descriptorFreed  *sync.Cond    // uses mu; signaled when a descriptor was closed, or spare changed
	sweepTimer       *time.Timer   // runs while connections are open
	drained          chan struct{} // closed with the last connection; nil if not awaited
}

// add registers a connection. It returns nil if all places are taken and no connection
// can make room.
func (s *connections) add(c net.Conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := s.server.newConn(c)
	config := added.checkedPolicy.Handshake(isLocal(c))
	if !s.findRoomLocked(config != nil) {
		return nil
	}
	if s.open == nil {
		s.open = map[*conn]struct{}{}
		s.sweepTimer = time.AfterFunc(sweepEvery, s.sweep)
	} else if len(s.open) == 0 {
		s.sweepTimer.Reset(sweepEvery)
	}
	if config != nil {
		added.startTLS(config)
	} else if socket, ok := c.(*socket); ok {
		socket.joinLoop(added, s.server.leastLoadedLoop())
	}
	s.open[added] = struct{}{}
	added.queuedSince = s.deadline(time.Now())
	added.idleSince.Store(added.queuedSince)
	class := s.classOf(added)
	class.open++
	class.strangers.push(added)
	return added
}

// shutDown returns a channel that is closed once no connection is open. It ends all
// connections that have no request under way.
func (s *connections) shutDown() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	drained := make(chan struct{})
	if len(s.open) == 0 {
		close(drained)
		return drained
	}
	s.drained = drained
	s.shuttingDown.Store(true)
	for c := range s.open {
		if c.idleSince.Load() != 0 && !hasUnread(c.raw) { // a request that has arrived is answered first
			c.end()
		}
	}
	return drained
}

func (s *connections) counts() (all, secure int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), s.secure.open
}

// sweep enforces deadlines, and logs afterwards, without the mutex: a slow log delays no
// deadline.
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
	s.server.wakeMemoryWaiters()
	report = s.reportRoomLocked(now)
	if len(s.open) > 0 || s.room.shortageReported {
		s.sweepTimer.Reset(sweepEvery)
	}
	return report
}

// deadline returns t in nanoseconds since the epoch; 0 means no deadline.
func (s *connections) deadline(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return int64(t.Sub(s.epoch))
}

// MaxConnections returns how many connections may be open: the configured limit, or fewer
// if MaxDescriptors requires it.
func (h *Server) MaxConnections() int { return h.limits.Load().maxOpen() }

// MaxTLSConnections returns how many of MaxConnections may be over TLS.
func (h *Server) MaxTLSConnections() int { return h.limits.Load().maxSecure() }

// awaitDescriptor waits until a listener may accept a connection. It reports false once
// the listener is closed. Without this wait, strangers could take more than
// MaxDescriptors, and the log could not open files any more; or more memory than there is.
//
// Each listener may exceed MaxDescriptors by one connection, since it accepts after the
// check. The value of MaxDescriptors must allow for that.
func (s *connections) awaitDescriptor(closed *atomic.Bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaitSpareLocked(closed)
	for !closed.Load() {
		limits := s.server.limits.Load()
		used := len(s.open) + int(s.turningAway.Load())
		if limits.MaxDescriptors == 0 || used < limits.MaxDescriptors {
			return true
		}
		s.room.listenerWaits.Add(1)
		s.descriptorFreed.Wait()
	}
	return false
}

// shrinkLocked ends connections while there are more than descriptors, after
// MaxDescriptors was lowered.
func (s *connections) shrinkLocked() {
	limit := s.server.limits.Load().maxWithDescriptors()
	for s.plain.occupied()+s.secure.occupied() > limit && s.makeRoomLocked(limit, &s.plain, &s.secure) {
	}
}

// wakeListeners wakes listeners that wait for a descriptor, so that they check again.
func (s *connections) wakeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.descriptorFreed.Broadcast()
}

// beginTurnAway counts a connection that is turned away, and reports whether there is a
// place to keep it until it has its answer.
func (s *connections) beginTurnAway() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turningAway.Load() >= s.server.limits.Load().maxTurningAway() {
		return false
	}
	s.turningAway.Add(1)
	return true
}

// endTurnAway closes a connection that beginTurnAway counted.
func (s *connections) endTurnAway(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turningAway.Add(-1)
	s.descriptorFreed.Signal()
}

// connClass is all connections of a kind: with or without TLS.
type connClass struct {
	open      int
	ending    int   // open connections that make room
	strangers queue // open connections without a request that was authenticated or stored
	clients   queue // the other open connections; connections that are ending are in neither queue
}

// occupied returns how many places the class takes.
func (class *connClass) occupied() int { return class.open - class.ending }

func (s *connections) classOf(c *conn) *connClass {
	if c.secure != nil {
		return &s.secure
	}
	return &s.plain
}

// oldestStranger returns the stranger with the smallest queuedSince, or nil.
func oldestStranger(classes []*connClass) (oldest *conn) {
	for _, class := range classes {
		if c := class.strangers.head; c != nil && (oldest == nil || c.queuedSince < oldest.queuedSince) {
			oldest = c
		}
	}
	return oldest
}

// roomState decides when a connection makes room.
type roomState struct {
	isClient atomic.Bool  // one of its requests was authenticated or stored
	hold     atomic.Int32 // holdFree, holdKept or holdTaken
	dropped  atomic.Bool  // it is closed at once, without an answer; changed with mu of connections held

	// Guarded by the mutex of connections.
	endingForRoom            bool   // it makes room
	endingForMemory          bool   // it makes room because memory is short
	queuedSince              int64  // when it was put at the end of its queue, by connections.deadline
	queue                    *queue // nil for none
	prevInQueue, nextInQueue *conn  // neighbors in queue
}

// Values of hold. A stranger is cut off only if hold changes from holdFree to holdTaken,
// and a request is stored only while hold is holdKept. So no connection is cut off
// between storing and its answer.
const (
	holdFree = iota
	holdKept
	holdTaken
)

// queue is a linked list of connections, in the order of push.
type queue struct {
	head, tail *conn
	n          int
}

func (q *queue) push(c *conn) {
	c.queue, c.prevInQueue, c.nextInQueue = q, q.tail, nil
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.nextInQueue = c
	}
	q.tail = c
	q.n++
}

// dequeue removes c from its queue, if it is in one.
func (c *conn) dequeue() {
	q := c.queue
	if q == nil {
		return
	}
	if c.prevInQueue == nil {
		q.head = c.nextInQueue
	} else {
		c.prevInQueue.nextInQueue = c.nextInQueue
	}
	if c.nextInQueue == nil {
		q.tail = c.prevInQueue
	} else {
		c.nextInQueue.prevInQueue = c.prevInQueue
	}
	q.n--
	c.queue, c.prevInQueue, c.nextInQueue = nil, nil, nil
}

// requeue moves c to the end of its queue, so that the others are tried first.
func (c *conn) requeue(now int64) {
	q := c.queue
	c.dequeue()
	c.queuedSince = now
	q.push(c)
}
