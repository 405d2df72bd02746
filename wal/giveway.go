package wal

import (
	"time"
)

// Reading sealed segments, which is what shipping begins with, gives way to UDP
// usages: what is sealed is safe where it is, and what waits in memory, or in the
// kernel behind it, is not. While more than one part in giveWayQueue of the queue
// is taken, and for giveWayMost after each YieldToIngest, a reader pauses after each frame,
// for giveWayMost at most, so that it gets on at ten megabytes a second or more;
// once half of MaxBytes is taken it is shipping that makes room, and nothing gives
// way any more.
const (
	giveWayQueue = 128
	giveWayMost  = 20 * time.Millisecond
	giveWayLook  = time.Millisecond
)

// giveWay waits while UDP usages should go first.
func (s *shelf) giveWay() {
	for end := time.Now().Add(giveWayMost); s.isUrgent() && time.Now().Before(end); {
		select {
		case <-time.After(giveWayLook):
		case <-s.closing:
			return
		}
	}
}

// isUrgent reports whether UDP usages wait where there is little room.
func (s *shelf) isUrgent() bool {
	urgent := s.queue.isUrgent()
	s.lock()
	defer s.unlock()
	return urgent && s.sealedBytes-s.keptLocked() < s.limits.Load().MaxBytes/2
}

func (q *queue) isUrgent() bool {
	asked := q.yieldAsked.Load()
	if asked != 0 && time.Since(q.heartbeat.epoch)-time.Duration(asked) < giveWayMost {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.staged.size()) > q.limits.Load().QueueBytes/giveWayQueue
}

// YieldToIngest says that usages wait to be enqueued where there is little room for
// them, such as in the kernel: whoever reads sealed segments gives way for a moment.
func (l *Log) YieldToIngest() {
	l.queue.yieldAsked.Store(int64(time.Since(l.heartbeat.epoch)) + 1)
}
