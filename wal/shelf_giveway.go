package wal

import (
	"time"
)

// Readers of sealed segments give way to ingest: a sealed segment is safe, but usages in
// memory or in the kernel's buffers are not. A reader looks after each frame.
//
//   - It pauses while more than 1/giveWayQueueDivisor of the UDP queue is used, and for
//     giveWayMaxPause after each YieldToIngest.
//   - While more than giveWayRate records per second are committed, it pauses after each
//     giveWayTurn, three times as long as it worked. The kernel gives a processor away for
//     milliseconds, so a reader that never pauses makes clients wait that long (measured).
//
// A pause takes at most giveWayMaxPause, so that a reader still reads ten megabytes per
// second or more. Once half of MaxBytes is used, readers no longer give way, because only
// shipping makes room.
const (
	giveWayQueueDivisor = 16 // 1/16 of the queue is more than arrives within maxStagedWait
	giveWayMaxPause     = 20 * time.Millisecond
	giveWayPoll         = time.Millisecond
	giveWayTurn         = time.Millisecond
	giveWayRate         = 2000 // a few hundredths of a processor's time
)

// readerPace decides when the reader of a sealed segment pauses.
type readerPace struct {
	shelf     *shelf
	began     time.Time // when the turn began
	checked   time.Time // when the last turn ended
	committed uint64    // records that the queue had committed at that time
}

func (s *shelf) newReaderPace() *readerPace {
	now := time.Now()
	return &readerPace{shelf: s, began: now, checked: now, committed: s.queue.committed.Load()}
}

// giveWay pauses, if it is time to.
func (p *readerPace) giveWay() {
	if p.shelf.udpHasPriority() {
		for end := time.Now().Add(giveWayMaxPause); p.shelf.udpHasPriority() && time.Now().Before(end); {
			p.shelf.pause(giveWayPoll)
		}
		p.began = time.Now()
		return
	}
	now := time.Now()
	worked := now.Sub(p.began)
	if worked < giveWayTurn {
		return
	}
	committed := p.shelf.queue.committed.Load()
	busy := float64(committed-p.committed) > giveWayRate*now.Sub(p.checked).Seconds()
	p.checked, p.committed = now, committed
	if busy && p.shelf.hasRoom() {
		p.shelf.pause(min(3*worked, giveWayMaxPause))
	}
	p.began = time.Now()
}

// pause waits, unless the log is being closed.
func (s *shelf) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.closing:
	}
}

// udpHasPriority reports whether UDP usages lack room while the log has room.
func (s *shelf) udpHasPriority() bool {
	return s.queue.udpIsUrgent() && s.hasRoom()
}

// hasRoom reports whether less than half of MaxBytes is used.
func (s *shelf) hasRoom() bool {
	s.lock()
	defer s.unlock()
	return s.sealedBytes-s.reclaimableLocked() < s.limits.Load().MaxBytes/2
}

func (q *queue) udpIsUrgent() bool {
	requestedAt := q.yieldRequestedAt.Load()
	if requestedAt != 0 && time.Since(q.rounds.epoch)-time.Duration(requestedAt) < giveWayMaxPause {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.staged.size()) > q.limits.Load().QueueBytes/giveWayQueueDivisor
}

// YieldToIngest reports that usages wait in a small buffer, such as the kernel's. Readers
// of sealed segments then give way for giveWayMaxPause.
func (l *Log) YieldToIngest() {
	l.queue.yieldRequestedAt.Store(int64(time.Since(l.rounds.epoch)) + 1)
}
