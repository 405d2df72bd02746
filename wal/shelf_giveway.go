package wal

import (
	"time"
)

// Reading sealed segments gives way to UDP usages: a sealed segment is safe, while
// usages in memory, or in the kernel's buffers behind it, are not. While more than one
// part in giveWayQueue of the queue is taken, and for giveWayMax after each
// YieldToIngest, a reader pauses after each frame, for giveWayMax at most, so that it
// still reads ten megabytes a second or more. Once half of MaxBytes is taken, only
// shipping makes room, and nothing gives way any more.
const (
	giveWayQueue = 16 // more than what comes within stagedWait
	giveWayMax   = 20 * time.Millisecond
	giveWayPoll  = time.Millisecond
)

// giveWay waits while UDP usages should go first.
func (s *shelf) giveWay() {
	for end := time.Now().Add(giveWayMax); s.isUrgent() && time.Now().Before(end); {
		select {
		case <-time.After(giveWayPoll):
		case <-s.closing:
			return
		}
	}
}

// isUrgent reports whether UDP usages are short of room and the log is not.
func (s *shelf) isUrgent() bool {
	urgent := s.queue.isUrgent()
	s.lock()
	defer s.unlock()
	return urgent && s.sealedBytes-s.keptLocked() < s.limits.Load().MaxBytes/2
}

func (q *queue) isUrgent() bool {
	asked := q.yieldAsked.Load()
	if asked != 0 && time.Since(q.heartbeat.epoch)-time.Duration(asked) < giveWayMax {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.staged.size()) > q.limits.Load().QueueBytes/giveWayQueue
}

// YieldToIngest reports that usages wait where there is little room for them, such as
// in the kernel's buffers: readers of sealed segments give way for a moment.
func (l *Log) YieldToIngest() {
	l.queue.yieldAsked.Store(int64(time.Since(l.heartbeat.epoch)) + 1)
}
