package httpserver

import "sync/atomic"

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

// requeue moves c to the end of its queue, so that the others are tried first.
func (c *conn) requeue(now int64) {
	q := c.queue
	c.dequeue()
	c.queuedSince = now
	q.push(c)
}
