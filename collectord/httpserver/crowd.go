package httpserver

import "sync/atomic"

// standing decides when a connection makes room.
type standing struct {
	known atomic.Bool  // a request of it was authenticated or stored
	hold  atomic.Int32 // free, kept or taken

	// Guarded by the mutex of connections.
	ending        bool   // it makes room
	relieves      bool   // it makes room because memory is short
	since         int64  // when it was put at the end of its queue, by connections.deadline
	queue         *queue // nil for none
	ahead, behind *conn  // neighbors in queue
}

// Values of hold. A stranger is cut off only if it changes from free to taken, and a
// request is stored only if its connection is kept. So no connection is cut off between
// storing and its answer.
const (
	free = iota
	kept
	taken
)

// queue is a linked list of connections, in the order of push.
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

// remove removes c from its queue, if it is in one.
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

// crowd is all connections of a kind: with or without TLS.
type crowd struct {
	open      int
	ending    int   // open connections that make room
	strangers queue // open connections without a request that was authenticated or stored
	clients   queue // the other open connections; neither queue has those that are ending
}

// held returns how many places the crowd takes.
func (of *crowd) held() int { return of.open - of.ending }

func (s *connections) crowdOf(c *conn) *crowd {
	if c.secure != nil {
		return &s.secure
	}
	return &s.plain
}

// oldestStranger returns the stranger with the smallest since, or nil.
func oldestStranger(crowds []*crowd) (oldest *conn) {
	for _, of := range crowds {
		if c := of.strangers.head; c != nil && (oldest == nil || c.since < oldest.since) {
			oldest = c
		}
	}
	return oldest
}

// requeue moves c to the end of its queue, so that the others are tried first.
func (c *conn) requeue(now int64) {
	q := c.queue
	c.remove()
	c.since = now
	q.push(c)
}
