package httpserver

import "time"

// When all places are taken, a new connection is accepted if an open one can make room.
// If only the places over TLS are taken, that must be one over TLS. A connection is a
// stranger until one of its requests was authenticated, by a token or a certificate, or
// stored. Connections make room in this order:
//
//  1. the oldest stranger that has had strangersTime,
//  2. while strangers hold more than half of the places, the oldest of them that
//     has had leastTime: a flood of strangers displaces itself, not clients,
//  3. the client that has been idle longest, if for longer than idleAfter,
//  4. the oldest stranger that has had leastTime.
//
// A stranger can make room in any state, from handshake to idle. A request that was
// authenticated keeps its connection until it is answered, even if its body is slow;
// http.body_rate limits that time. So does a request whose usages were passed to the log.
// If no connection can make room, the new one is turned away.
const (
	strangersTime = time.Second
	idleAfter     = time.Second
	leastTime     = 20 * time.Millisecond
)

// findRoomLocked reports whether one more connection has a place. If none is free, it
// makes an open connection end.
func (s *connections) findRoomLocked(secure bool) bool {
	limits := s.server.limits.Load()
	if most := limits.secure(); secure && most < limits.connections() && s.secure.held() >= most {
		s.room.secure.Add(1)
		return s.makeRoomLocked(most, &s.secure)
	}
	most := limits.connections()
	return s.plain.held()+s.secure.held() < most || s.makeRoomLocked(most, &s.plain, &s.secure)
}

// makeRoomLocked makes one connection of these crowds end, and reports whether one could.
// A connection that can't is tried again after leastTime at the earliest, so that the
// cost of a flood does not grow with the number of open connections.
func (s *connections) makeRoomLocked(most int, crowds ...*crowd) bool {
	now := s.deadline(time.Now())
	return s.cutSpareStrangerLocked(now, most, crowds) ||
		s.endIdleLocked(now, crowds) ||
		s.cutStrangerLocked(now, leastTime, crowds)
}

// cutSpareStrangerLocked cuts off a stranger by rule 1 or 2, before any client makes
// room.
func (s *connections) cutSpareStrangerLocked(now int64, most int, crowds []*crowd) bool {
	strangers := 0
	for _, of := range crowds {
		strangers += of.strangers.n
	}
	return s.cutStrangerLocked(now, strangersTime, crowds) || strangers > most/2 && s.cutStrangerLocked(now, leastTime, crowds)
}

// cutStrangerLocked cuts off the oldest stranger that is older than age.
func (s *connections) cutStrangerLocked(now int64, age time.Duration, crowds []*crowd) bool {
	for c := oldestStranger(crowds); c != nil && c.since <= now-int64(age); c = oldestStranger(crowds) {
		if !c.hold.CompareAndSwap(free, taken) {
			c.requeue(now) // its request keeps it
			continue
		}
		s.endLocked(c)
		s.room.made[c.cutOff()].Add(1)
		return true
	}
	return false
}

// maxRelieving is how many strangers make room at a time when memory is short. Each may
// take cutWithin to end, while thousands of connections wait.
const maxRelieving = 256

// relieve cuts off strangers when a loop has no memory left for the bytes that waiting
// connections send. At most min(waiting, maxRelieving) are ending at a time.
func (s *connections) relieve(waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, most := s.deadline(time.Now()), s.server.limits.Load().connections()
	s.relieves = true
	for s.relieving < min(waiting, maxRelieving) && s.cutSpareStrangerLocked(now, most, []*crowd{&s.plain}) {
		s.room.relief.Add(1)
	}
	s.relieves = false
}

// cutWithin is the time that a client has to take the answer when its connection is cut
// off, as in the table at the type state.
const cutWithin = 50 * time.Millisecond

// lookAt is how many idle clients are compared to find the one that has been idle
// longest. With more clients, the result is an approximation.
const lookAt = 64

// endIdleLocked ends the client that has been idle longest. It wakes the connection
// instead of closing it, so that a request that was read meanwhile is answered.
func (s *connections) endIdleLocked(now int64, crowds []*crowd) bool {
	var idlest *conn
	for _, of := range crowds {
		idlest = of.idlest(idlest, now)
	}
	if idlest == nil {
		return false
	}
	s.endLocked(idlest)
	idlest.end()
	s.room.made[idleClient].Add(1)
	return true
}

// idlest returns the client that has been idle longest, of this crowd and the given one.
func (of *crowd) idlest(idlest *conn, now int64) *conn {
	latest := now - int64(idleAfter)
	looked := 0
	for c := of.clients.head; c != nil && c.since <= latest && looked < lookAt; {
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
	return idlest
}

func (s *connections) endLocked(c *conn) {
	c.remove()
	c.ending, c.relieves = true, s.relieves
	s.crowdOf(c).ending++
	if c.relieves {
		s.relieving++
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
	if len(s.open) == 0 && s.none != nil {
		close(s.none)
		s.none = nil
	}
	c.remove()
	of := s.crowdOf(c)
	of.open--
	if c.ending {
		of.ending--
	}
	if c.relieves {
		s.relieving--
	}
	s.freed.Signal()
}

// keep prevents the connection from making room until its request is answered. It reports
// false if the connection was cut off already; then the caller must store nothing.
func (c *conn) keep() bool {
	return c.hold.CompareAndSwap(free, kept) || c.hold.Load() == kept
}

// know marks the connection as one of a client, after a request of it was authenticated
// or stored.
func (c *conn) know() {
	if c.known.Load() || c.known.Swap(true) {
		return
	}
	s := c.all
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.crowdOf(c)
	if c.queue != &of.strangers {
		return // the connection is closed or ending
	}
	c.remove()
	c.since = s.deadline(time.Now())
	of.clients.push(c)
}
