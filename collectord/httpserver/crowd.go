package httpserver

import "sync/atomic"

// standing is what decides when a connection makes room.
type standing struct {
	known atomic.Bool  // is no stranger
	hold  atomic.Int32 // free, kept or taken

	// Guarded by the mutex of connections.
	ending        bool   // makes room
	relieves      bool   // because memory is short
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

// crowd is connections of a kind.
type crowd struct {
	open      int
	ending    int   // of those open: had to make room
	strangers queue // of those open: no request was authenticated or stored
	clients   queue // the others; those that are ending are in neither
}

// held is how many have a place.
func (of *crowd) held() int { return of.open - of.ending }

func (s *connections) crowdOf(c *conn) *crowd {
	if c.secure != nil {
		return &s.secure
	}
	return &s.plain
}

// oldestStranger returns the one of these crowds that was pushed first, or nil.
func oldestStranger(crowds []*crowd) (oldest *conn) {
	for _, of := range crowds {
		if c := of.strangers.head; c != nil && (oldest == nil || c.since < oldest.since) {
			oldest = c
		}
	}
	return oldest
}

// requeue puts c at the end of its queue, as if it had come now: it is not looked
// at again before the others.
func (c *conn) requeue(now int64) {
	q := c.queue
	c.remove()
	c.since = now
	q.push(c)
}
