package httpserver

import "time"

// When all places are taken, a new connection is accepted if another one can
// make room for it: any, or one over TLS where only the places for these are taken.
// A connection is a stranger until one of its requests was authenticated, by a token
// or a certificate, or stored. These make room, in this order:
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

// findRoomLocked reports whether there is a place for one more connection.
func (s *connections) findRoomLocked(secure bool) bool {
	limits := s.server.limits.Load()
	if most := limits.secure(); secure && most < limits.connections() && s.secure.held() >= most {
		s.room.secure.Add(1)
		return s.makeRoomLocked(most, &s.secure)
	}
	most := limits.connections()
	return s.plain.held()+s.secure.held() < most || s.makeRoomLocked(most, &s.plain, &s.secure)
}

// makeRoomLocked has a connection of these crowds end, and reports whether there was one.
// Each connection that can't is looked at once in leastTime at most, so that the cost
// of a flood does not grow with what is open.
func (s *connections) makeRoomLocked(most int, crowds ...*crowd) bool {
	now := s.deadline(time.Now())
	return s.cutSpareStrangerLocked(now, most, crowds) ||
		s.endIdleLocked(now, crowds) ||
		s.cutStrangerLocked(now, leastTime, crowds)
}

// cutSpareStrangerLocked cuts off a stranger that makes room before any client does.
func (s *connections) cutSpareStrangerLocked(now int64, most int, crowds []*crowd) bool {
	strangers := 0
	for _, of := range crowds {
		strangers += of.strangers.n
	}
	return s.cutStrangerLocked(now, strangersTime, crowds) || strangers > most/2 && s.cutStrangerLocked(now, leastTime, crowds)
}

// cutStrangerLocked cuts off the oldest stranger, if it is older than age.
func (s *connections) cutStrangerLocked(now int64, age time.Duration, crowds []*crowd) bool {
	for c := oldestStranger(crowds); c != nil && c.since <= now-int64(age); c = oldestStranger(crowds) {
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

// maxRelieving is how many strangers make room at once where memory is short: some take
// cutWithin for that, and thousands may be waiting.
const maxRelieving = 256

// relieve has strangers make room where a loop has no memory left for what so many others
// send, unless as many are at it.
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

// cutWithin is how long whoever is cut off has to take the answer that says so, as the
// table at the type state has it.
const cutWithin = 50 * time.Millisecond

// lookAt is how many idle clients are looked at to find the one that has been idle
// longest. With more than that, it is one of the longest.
const lookAt = 64

// endIdleLocked ends the idlest client. Its connection is not closed but woken: a
// request that has been read meanwhile is answered.
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

// idlest returns the idlest client of a crowd, or another that is idler.
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
	of := s.crowdOf(c)
	if c.queue != &of.strangers {
		return // it is closed
	}
	c.remove()
	c.since = s.deadline(time.Now())
	of.clients.push(c)
}
