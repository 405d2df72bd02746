package httpserver

import (
	"sync/atomic"
	"time"
)

// When all places are taken, a new connection is accepted if another one can
// make room for it. A connection is a stranger until one of its requests was
// authenticated, by a token or a certificate, or stored. These make room, in this
// order:
//
//  1. the oldest stranger that has had strangersTime,
//  2. while strangers hold more than half of the places, the oldest of them that
//     has had leastTime: a flood of strangers displaces itself, not clients,
//  3. the client that has been idle longest, if for longer than idleAfter,
//  4. the oldest stranger that has had leastTime.
//
// Whatever a stranger is doing does not matter: shaking hands, sending a header
// or a body, taking an answer, idling. A request that was authenticated keeps its
// connection until it is answered, even if its body is slow: http.body_rate
// bounds that, and it takes a token to get there. So does a request whose usages
// were handed to the log. The new connection is turned away if nobody is left.
const (
	strangersTime = time.Second
	idleAfter     = time.Second
	leastTime     = 20 * time.Millisecond
)

// standing is what decides when a connection makes room.
type standing struct {
	known atomic.Bool  // is no stranger
	hold  atomic.Int32 // free, kept or taken

	// Guarded by the mutex of connections.
	ending        bool   // makes room
	since         int64  // as deadline makes it: when it was put at the end of its queue
	queue         *queue // nil for none
	ahead, behind *conn  // in it
}

// Values of hold. A stranger is cut off (taken) only if it is free, and a request is
// stored only if its connection is kept: so none is cut off before its answer.
const (
	free = iota
	kept
	taken
)

// queue is a list of connections, the one that was pushed first at its head.
type queue struct {
	head, tail *conn
	n          int
}

func (q *queue) push(c *conn) {
	c.queue, c.ahead, c.behind = q, q.tail, nil
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.behind = c
	}
	q.tail = c
	q.n++
}

// remove takes c out of the queue it is in, if any.
func (c *conn) remove() {
	q := c.queue
	if q == nil {
		return
	}
	if c.ahead == nil {
		q.head = c.behind
	} else {
		c.ahead.behind = c.behind
	}
	if c.behind == nil {
		q.tail = c.ahead
	} else {
		c.behind.ahead = c.ahead
	}
	q.n--
	c.queue, c.ahead, c.behind = nil, nil, nil
}

// requeue puts c at the end of its queue, as if it had come now: it is not looked
// at again before the others.
func (c *conn) requeue(now int64) {
	q := c.queue
	c.remove()
	c.since = now
	q.push(c)
}

// makeRoomLocked has a connection end, and reports whether there was one. Each
// connection that can't is looked at once in leastTime at most, so that the cost
// of a flood does not grow with what is open.
func (s *connections) makeRoomLocked(most int) bool {
	now := s.deadline(time.Now())
	return s.cutStrangerLocked(now, strangersTime) ||
		s.strangers.n > most/2 && s.cutStrangerLocked(now, leastTime) ||
		s.endIdleLocked(now) ||
		s.cutStrangerLocked(now, leastTime)
}

// cutStrangerLocked cuts off the oldest stranger, if it is older than age.
func (s *connections) cutStrangerLocked(now int64, age time.Duration) bool {
	for c := s.strangers.head; c != nil && c.since <= now-int64(age); c = s.strangers.head {
		if !c.hold.CompareAndSwap(free, taken) {
			c.requeue(now) // its usages are with the log
			continue
		}
		s.endLocked(c)
		s.room.made[c.cutOff()].Add(1)
		return true
	}
	return false
}

// relieved is how many strangers make room at once where memory is short.
const relieved = 8

// relieve has strangers make room where a loop has no memory left for what others send,
// unless some are at it.
func (s *connections) relieve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending > 0 {
		return
	}
	now, most := s.deadline(time.Now()), s.server.limits.Load().connections()
	for n := 0; n < relieved; n++ {
		if !s.cutStrangerLocked(now, strangersTime) && (s.strangers.n <= most/2 || !s.cutStrangerLocked(now, leastTime)) {
			return
		}
	}
}

// cutWithin is how long whoever is cut off has to take the answer that says so, as the
// table at the type state has it.
const cutWithin = 50 * time.Millisecond

// lookAt is how many idle clients are looked at to find the one that has been idle
// longest. With more than that, it is one of the longest.
const lookAt = 64

// endIdleLocked ends the idlest client. Its connection is not closed but woken: a
// request that has been read meanwhile is answered.
func (s *connections) endIdleLocked(now int64) bool {
	latest := now - int64(idleAfter)
	var idlest *conn
	looked := 0
	for c := s.clients.head; c != nil && c.since <= latest && looked < lookAt; {
		next := c.behind
		since := c.idleSince.Load()
		switch {
		case since == 0, since > latest:
			c.requeue(now)
		case idlest != nil && since >= idlest.idleSince.Load():
			looked++
		case unread(c.raw):
			c.requeue(now)
		default:
			looked++
			idlest = c
		}
		c = next
	}
	if idlest == nil {
		return false
	}
	s.endLocked(idlest)
	idlest.end()
	s.room.made[idleClient].Add(1)
	return true
}

func (s *connections) endLocked(c *conn) {
	c.remove()
	c.ending = true
	s.ending++
}

// remove forgets a connection that is closed.
func (s *connections) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.open[c]; !open {
		return
	}
	delete(s.open, c)
	if len(s.open) == 0 && s.none != nil {
		close(s.none)
		s.none = nil
	}
	c.remove()
	if c.ending {
		s.ending--
	}
	s.freed.Signal()
}

// keep keeps a connection from making room until its request is answered. It is
// false if it is too late for that: then nothing may be stored.
func (c *conn) keep() bool {
	return c.hold.CompareAndSwap(free, kept) || c.hold.Load() == kept
}

// know makes a connection one of a client: a request of it was authenticated or
// stored.
func (c *conn) know() {
	if c.known.Load() || c.known.Swap(true) {
		return
	}
	s := c.all
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.queue != &s.strangers {
		return // it is closed
	}
	c.remove()
	c.since = s.deadline(time.Now())
	s.clients.push(c)
}

// idleClient stands beside the states of strangers that make room: a client that is
// idle after a request that was authenticated or stored.
const idleClient = states

// madeRoom names what a connection that made room was doing, by state.
var madeRoom = [states + 1]string{ //nolint:gochecknoglobals // a constant table
	stateOpening: "silent", stateHandshake: "handshake", stateIdle: "idle", stateHeader: "header",
	stateBody: "body", stateStoring: "body", stateWriting: "answer", stateLingering: "answer", idleClient: "client",
}

// roomCounters count what happens when all places are taken.
type roomCounters struct {
	made   [states + 1]atomic.Uint64
	away   atomic.Uint64
	hungry atomic.Uint64 // reads that waited for memory
	waits  atomic.Uint64 // of listeners, for a descriptor

	// Guarded by the mutex of connections.
	reported roomCounts
	reached  bool      // it was reported, and is not over yet
	last     time.Time // when the counters were seen to grow
}

type roomCounts struct{ made, away, hungry, waits uint64 }

func (r *roomCounters) now() (n roomCounts) {
	for i := range r.made {
		n.made += r.made[i].Load()
	}
	n.away, n.hungry, n.waits = r.away.Load(), r.hungry.Load(), r.waits.Load()
	return n
}

// MadeRoom returns how many connections were closed to make room for others, by
// what they were doing.
func (h *Server) MadeRoom() map[string]uint64 {
	m := make(map[string]uint64, states)
	for s, name := range madeRoom {
		m[name] += h.open.room.made[s].Load()
	}
	return m
}

// TurnedAway returns how many connections were answered 503 and closed because
// none could make room for them.
func (h *Server) TurnedAway() uint64 { return h.open.room.away.Load() }

// ReadsDelayed returns how often a connection was not read at once, because no memory was
// left for what it sends.
func (h *Server) ReadsDelayed() uint64 { return h.open.room.hungry.Load() }

// calmAfter is how long no connection must have made room until the trouble is
// over.
const calmAfter = 2 * time.Second

// reportRoomLocked returns how to log what has happened since the sweep before, or
// nil. To log each connection would slow down the listener.
func (s *connections) reportRoomLocked(now time.Time) func() {
	r, counts, before := &s.room, s.room.now(), s.room.reported
	limits, logger := s.server.limits.Load(), s.server.opts.Logger
	switch {
	case counts != before:
		r.reported, r.reached, r.last = counts, true, now
		text := "connections make room or are turned away: http.max_connections is reached (raise it, or look for clients that hold connections and send nothing)"
		if limits.connections() < limits.MaxConnections {
			text = "connections make room or are turned away: no more file descriptors are left for them (raise LimitNOFILE=, or look for clients that hold connections and send nothing)"
		}
		if counts.hungry > before.hungry {
			text = "connections wait to be read: the memory for headers and small bodies is used up (look for clients that begin requests and do not end them)"
		}
		return func() {
			logger.Warn(text, "trouble", "connections", "made_room", counts.made-before.made,
				"turned_away", counts.away-before.away, "reads_delayed", counts.hungry-before.hungry, "listeners_waited", counts.waits-before.waits)
		}
	case r.reached && now.Sub(r.last) >= calmAfter:
		r.reached = false
		return func() {
			logger.Info("no connection makes room or is turned away any more", "trouble", "connections")
		}
	}
	return nil
}
