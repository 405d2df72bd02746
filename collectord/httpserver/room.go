package httpserver

import (
	"sync/atomic"
	"time"
)

// When all places are taken, a new connection is accepted if an open one can make room.
// If only the places over TLS are taken, that must be one over TLS. A connection is a
// stranger until one of its requests was authenticated, by a token or a certificate, or
// stored. Connections make room in this order:
//
//  1. the oldest stranger that has had strangerGrace,
//  2. while strangers hold more than half of the places, the oldest of them that
//     has had connMinTime: a flood of strangers displaces itself, not clients,
//  3. the client that has been idle longest, if for longer than clientMinIdle,
//  4. the oldest stranger that has had connMinTime.
//
// A stranger can make room in any state, from handshake to idle. A request that was
// authenticated keeps its connection until it is answered, even if its body is slow;
// http.body_rate limits that time. A request whose usages were passed to the log also
// keeps its connection. If no connection can make room, the new one is turned away.
//
// When memory is short, only strangers make room, the oldest first: by rules 1 and 2 if a
// loop has too little (cutForMemory), and by rule 4 if the control group has (see
// groupmemory.go).
const (
	strangerGrace = time.Second
	clientMinIdle = time.Second
	connMinTime   = 20 * time.Millisecond
)

// findRoomLocked reports whether one more connection has a place. If none is free, it
// makes an open connection end.
func (s *connections) findRoomLocked(secure bool) bool {
	limits := s.server.limits.Load()
	if limit := limits.maxSecure(); secure && limit < limits.maxOpen() && s.secure.occupied() >= limit {
		s.room.secureLimitReached.Add(1)
		return s.makeRoomLocked(limit, &s.secure)
	}
	limit := limits.maxOpen()
	return s.plain.occupied()+s.secure.occupied() < limit || s.makeRoomLocked(limit, &s.plain, &s.secure)
}

// makeRoomLocked makes one connection of these classes end, and reports whether one could.
// A connection that can't end is tried again after connMinTime at the earliest, so that
// the cost of a flood does not grow with the number of open connections.
func (s *connections) makeRoomLocked(limit int, classes ...*connClass) bool {
	now := s.deadline(time.Now())
	return s.cutExcessStrangerLocked(now, limit, classes) ||
		s.endIdleLocked(now, classes) ||
		s.cutStrangerLocked(now, connMinTime, classes)
}

// cutExcessStrangerLocked cuts off a stranger by rule 1 or 2, before any client makes
// room.
func (s *connections) cutExcessStrangerLocked(now int64, limit int, classes []*connClass) bool {
	strangers := 0
	for _, class := range classes {
		strangers += class.strangers.n
	}
	return s.cutStrangerLocked(now, strangerGrace, classes) || strangers > limit/2 && s.cutStrangerLocked(now, connMinTime, classes)
}

// cutStrangerLocked cuts off the oldest stranger that is older than age.
func (s *connections) cutStrangerLocked(now int64, age time.Duration, classes []*connClass) bool {
	c := s.takeStrangerLocked(now, age, classes)
	if c == nil {
		return false
	}
	s.room.closed[c.cutOff()].Add(1)
	return true
}

// takeStrangerLocked marks the oldest stranger that is older than age as ending, and returns
// it, or nil. The caller ends it.
func (s *connections) takeStrangerLocked(now int64, age time.Duration, classes []*connClass) *conn {
	for c := oldestStranger(classes); c != nil && c.queuedSince <= now-int64(age); c = oldestStranger(classes) {
		if !c.hold.CompareAndSwap(holdFree, holdTaken) {
			c.requeue(now) // its request keeps it
			continue
		}
		s.markEndingLocked(c)
		return c
	}
	return nil
}

// maxEndingForMemory is how many strangers make room at a time when memory is short. Each may
// take cutOffTime to end, while thousands of connections wait.
const maxEndingForMemory = 256

// cutForMemory cuts off strangers when a loop has no memory left for the bytes that waiting
// connections send. At most min(waiting, maxEndingForMemory) are ending at a time.
func (s *connections) cutForMemory(waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, limit := s.deadline(time.Now()), s.server.limits.Load().maxOpen()
	s.cuttingForMemory = true
	for s.endingForMemory < min(waiting, maxEndingForMemory) && s.cutExcessStrangerLocked(now, limit, []*connClass{&s.plain}) {
		s.room.closedForMemory.Add(1)
	}
	s.cuttingForMemory = false
}

// cutOffTime is the time that a client has to take the answer when its connection is cut
// off, as in the table at the type state.
const cutOffTime = 50 * time.Millisecond

// maxCompared is how many idle clients are compared to find the one that has been idle
// longest. With more clients, the result is an approximation.
const maxCompared = 64

// endIdleLocked ends the client that has been idle longest. It wakes the connection
// instead of closing it, so that a request that was read meanwhile is answered.
func (s *connections) endIdleLocked(now int64, classes []*connClass) bool {
	var longest *conn
	for _, class := range classes {
		longest = class.longestIdle(longest, now)
	}
	if longest == nil {
		return false
	}
	s.markEndingLocked(longest)
	longest.end()
	s.room.closed[idleClient].Add(1)
	return true
}

// longestIdle returns the client that has been idle longest, among those of this class
// and the given one.
func (class *connClass) longestIdle(longest *conn, now int64) *conn {
	latest := now - int64(clientMinIdle)
	compared := 0
	for c := class.clients.head; c != nil && c.queuedSince <= latest && compared < maxCompared; {
		next := c.nextInQueue
		since := c.idleSince.Load()
		switch {
		case since == 0, since > latest:
			c.requeue(now)
		case longest != nil && since >= longest.idleSince.Load():
			compared++
		case hasUnread(c.raw):
			c.requeue(now)
		default:
			compared++
			longest = c
		}
		c = next
	}
	return longest
}

func (s *connections) markEndingLocked(c *conn) {
	c.dequeue()
	c.endingForRoom, c.endingForMemory = true, s.cuttingForMemory
	s.classOf(c).ending++
	if c.endingForMemory {
		s.endingForMemory++
	}
}

// remove unregisters a closed connection.
func (s *connections) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.open[c]; !open {
		return
	}
	delete(s.open, c)
	if len(s.open) == 0 && s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
	c.dequeue()
	class := s.classOf(c)
	class.open--
	if c.endingForRoom {
		class.ending--
	}
	if c.endingForMemory {
		s.endingForMemory--
	}
	if c.dropped.Load() {
		s.dropping--
	}
	s.descriptorFreed.Signal()
}

// protect prevents the connection from making room until its request is answered. It reports
// false if the connection was cut off already; then the caller must store nothing.
func (c *conn) protect() bool {
	return c.hold.CompareAndSwap(holdFree, holdKept) || c.hold.Load() == holdKept
}

// markClient marks the connection as one of a client, after a request of it was authenticated
// or stored.
func (c *conn) markClient() {
	if c.isClient.Load() || c.isClient.Swap(true) {
		return
	}
	s := c.registry
	s.mu.Lock()
	defer s.mu.Unlock()
	class := s.classOf(c)
	if c.queue != &class.strangers {
		return // the connection is closed or ending
	}
	c.dequeue()
	c.queuedSince = s.deadline(time.Now())
	class.clients.push(c)
}

// idleClient is the index in closedForRoomNames, after the states, of a client's idle
// connection. The states count strangers only.
const idleClient = states

// closedForRoomNames maps the state of a connection that made room to its name in metrics.
var closedForRoomNames = [states + 1]string{ //nolint:gochecknoglobals // a constant table
	stateOpening: "silent", stateHandshake: "handshake", stateIdle: "idle", stateHeader: "header",
	stateBody: "body", stateStoring: "body", stateWriting: "answer", stateLingering: "answer", idleClient: "client",
}

// roomCounters counts events while places or memory are short.
type roomCounters struct {
	closed             [states + 1]atomic.Uint64
	turnedAway         atomic.Uint64
	secureLimitReached atomic.Uint64 // times that only the places over TLS were taken
	closedForMemory    atomic.Uint64 // strangers cut off because memory was short
	closedForGroup     atomic.Uint64 // strangers cut off because the control group had little memory left
	readsDelayed       atomic.Uint64 // reads that waited for memory
	acceptsDelayed     atomic.Uint64 // times that no connection was accepted because the control group had little memory left
	listenerWaits      atomic.Uint64 // times that a listener waited for a descriptor

	// Guarded by the mutex of connections.
	reported         roomCounts
	shortageReported bool      // the shortage was reported, and its end was not
	lastChange       time.Time // when a sweep last saw the counters grow
}

type roomCounts struct{ closed, turnedAway, readsDelayed, listenerWaits, secureLimitReached, closedForMemory, closedForGroup, acceptsDelayed uint64 }

func (r *roomCounters) snapshot() (n roomCounts) {
	for i := range r.closed {
		n.closed += r.closed[i].Load()
	}
	n.turnedAway, n.listenerWaits, n.secureLimitReached, n.closedForMemory = r.turnedAway.Load(), r.listenerWaits.Load(), r.secureLimitReached.Load(), r.closedForMemory.Load()
	n.readsDelayed, n.closedForGroup, n.acceptsDelayed = r.readsDelayed.Load(), r.closedForGroup.Load(), r.acceptsDelayed.Load()
	return n
}

// ClosedForRoom returns how many connections were closed to make room for others, by the
// names in closedForRoomNames.
func (h *Server) ClosedForRoom() map[string]uint64 {
	m := make(map[string]uint64, states)
	for s, name := range closedForRoomNames {
		m[name] += h.conns.room.closed[s].Load()
	}
	return m
}

// TurnedAway returns how many connections were turned away because none could make room
// for them: closed, usually with a 503.
func (h *Server) TurnedAway() uint64 { return h.conns.room.turnedAway.Load() }

// ReadsDelayed returns how often a connection had to wait before it was read, because no
// memory was left for its bytes.
func (h *Server) ReadsDelayed() uint64 { return h.conns.room.readsDelayed.Load() }

// calmAfter is how long no connection may make room before the trouble is reported as
// over.
const calmAfter = 2 * time.Second

// reportRoomLocked returns a function that logs what happened since the last sweep, or
// nil. One line for each connection would slow down the listener.
func (s *connections) reportRoomLocked(now time.Time) func() {
	r, counts, logger := &s.room, s.room.snapshot(), s.server.opts.Logger
	n := counts.since(r.reported)
	switch {
	case n != roomCounts{}:
		r.reported, r.shortageReported, r.lastChange = counts, true, now
		text := n.shortage(s.server.limits.Load())
		return func() {
			logger.Warn(text, "trouble", "connections", "made_room", n.closed,
				"turned_away", n.turnedAway, "reads_delayed", n.readsDelayed, "listeners_waited", n.listenerWaits)
		}
	case r.shortageReported && now.Sub(r.lastChange) >= calmAfter:
		r.shortageReported = false
		return func() {
			logger.Info("no connection makes room or is turned away any more", "trouble", "connections")
		}
	}
	return nil
}

// since returns what was counted after before.
func (n roomCounts) since(before roomCounts) roomCounts {
	return roomCounts{
		closed:             n.closed - before.closed,
		turnedAway:         n.turnedAway - before.turnedAway,
		readsDelayed:       n.readsDelayed - before.readsDelayed,
		listenerWaits:      n.listenerWaits - before.listenerWaits,
		secureLimitReached: n.secureLimitReached - before.secureLimitReached,
		closedForMemory:    n.closedForMemory - before.closedForMemory,
		closedForGroup:     n.closedForGroup - before.closedForGroup,
		acceptsDelayed:     n.acceptsDelayed - before.acceptsDelayed,
	}
}

// shortage returns the log line for what was counted: what is short, and what to do.
func (n roomCounts) shortage(limits *Limits) string {
	switch {
	case n.closedForGroup > 0:
		return "connections make room: little memory is left of the control group's limit (raise MemoryMax= or the container's limit, lower http.max_connections, or look for clients that begin requests and do not complete them)"
	case n.acceptsDelayed > 0:
		return "connections wait to be accepted: little memory is left of the control group's limit (raise MemoryMax= or the container's limit, or look for clients that begin requests and do not complete them)"
	case n.closedForMemory > 0:
		return "connections make room: the memory for received bytes is used up (look for clients that begin requests and do not complete them)"
	case n.readsDelayed > 0:
		return "connections wait to be read: the memory for headers and small bodies is used up (look for clients that begin requests and do not complete them)"
	case n.secureLimitReached > 0 && n.secureLimitReached >= n.closed+n.turnedAway:
		return "connections over TLS make room or are turned away: http.max_tls_connections is reached (raise it, or look for clients that hold connections and send nothing)"
	case limits.maxOpen() < limits.MaxConnections:
		return "connections make room or are turned away: no more file descriptors are left for them (raise LimitNOFILE=, or look for clients that hold connections and send nothing)"
	}
	return "connections make room or are turned away: http.max_connections is reached (raise it, or look for clients that hold connections and send nothing)"
}
