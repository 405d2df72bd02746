package wal

import (
	"time"
)

// Readers of sealed segments give way to UDP usages: a sealed segment is safe, but
// usages in memory or in the kernel's buffers are not. A reader does so while more than
// 1/giveWayQueueDivisor of the queue is used, and for giveWayMaxPause after each
// YieldToIngest. It then pauses after each frame for at most giveWayMaxPause, so that
// it still reads ten megabytes per second or more. Once half of MaxBytes is used,
// readers no longer give way, because only shipping makes room.
const (
	giveWayQueueDivisor = 16 // 1/16 of the queue is more than arrives within maxStagedWait
	giveWayMaxPause     = 20 * time.Millisecond
	giveWayPoll         = time.Millisecond
)

// giveWay waits while UDP usages have priority, for at most giveWayMaxPause.
func (s *shelf) giveWay() {
	for end := time.Now().Add(giveWayMaxPause); s.udpHasPriority() && time.Now().Before(end); {
		select {
		case <-time.After(giveWayPoll):
		case <-s.closing:
			return
		}
	}
}

// udpHasPriority reports whether UDP usages lack room while the log has room.
func (s *shelf) udpHasPriority() bool {
	urgent := s.queue.udpIsUrgent()
	s.lock()
	defer s.unlock()
	return urgent && s.sealedBytes-s.reclaimableLocked() < s.limits.Load().MaxBytes/2
}

func (q *queue) udpIsUrgent() bool {
	requestedAt := q.yieldRequestedAt.Load()
	if requestedAt != 0 && time.Since(q.heartbeat.epoch)-time.Duration(requestedAt) < giveWayMaxPause {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.staged.size()) > q.limits.Load().QueueBytes/giveWayQueueDivisor
}

// YieldToIngest reports that usages wait in a small buffer, such as the kernel's. Readers
// of sealed segments then give way for giveWayMaxPause.
func (l *Log) YieldToIngest() {
	l.queue.yieldRequestedAt.Store(int64(time.Since(l.heartbeat.epoch)) + 1)
}
