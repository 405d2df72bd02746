package wal

import (
	"time"
)

// Readers of sealed segments give way to UDP usages: a sealed segment is safe, but usages
// in memory or in the kernel's buffers are not. A reader does so while more than
// 1/giveWayQueue of the queue is used, and for giveWayMax after each YieldToIngest. It then
// pauses after each frame for at most giveWayMax, so that it still reads ten megabytes per
// second or more. Once half of MaxBytes is used, readers no longer give way, because only
// shipping makes room.
const (
	giveWayQueue = 16 // 1/16 of the queue is more than arrives within stagedWait
	giveWayMax   = 20 * time.Millisecond
	giveWayPoll  = time.Millisecond
)

// giveWay waits while UDP usages have priority, for at most giveWayMax.
func (s *shelf) giveWay() {
	for end := time.Now().Add(giveWayMax); s.isUrgent() && time.Now().Before(end); {
		select {
		case <-time.After(giveWayPoll):
		case <-s.closing:
			return
		}
	}
}

// isUrgent reports whether UDP usages lack room while the log has room.
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

// YieldToIngest reports that usages wait in a small buffer, such as the kernel's. Readers
// of sealed segments then give way for giveWayMax.
func (l *Log) YieldToIngest() {
	l.queue.yieldAsked.Store(int64(time.Since(l.heartbeat.epoch)) + 1)
}
