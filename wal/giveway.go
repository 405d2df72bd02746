package wal

import (
	"time"
)

// Reading sealed segments, which is what shipping begins with, gives way to UDP
// usages: what is sealed is safe where it is, and what waits in memory, or in the
// kernel behind it, is not. While more than one part in giveWayQueue of the queue
// is taken, and for giveWayMost after each Hurry, a reader pauses after each frame,
// for giveWayMost at most, so that it gets on at ten megabytes a second or more;
// once half of MaxBytes is taken it is shipping that makes room, and nothing gives
// way any more.
const (
	giveWayQueue = 128
	giveWayMost  = 20 * time.Millisecond
	giveWayLook  = time.Millisecond
)

// giveWay waits while UDP usages should go first.
func (l *Log) giveWay() {
	for end := time.Now().Add(giveWayMost); l.pressed() && time.Now().Before(end); {
		select {
		case <-time.After(giveWayLook):
		case <-l.closing:
			return
		}
	}
}

func (l *Log) pressed() bool {
	hurried := l.hurried.Load()
	waits := hurried != 0 && time.Since(l.pulse.epoch)-time.Duration(hurried) < giveWayMost
	l.mu.Lock()
	defer l.mu.Unlock()
	waits = waits || int64(l.staged.size()) > l.opts.QueueBytes/giveWayQueue
	return waits && l.sealedBytes < l.opts.MaxBytes/2
}

// Hurry says that usages wait to be enqueued where there is little room for them,
// such as in the kernel: whoever reads sealed segments gives way for a moment.
func (l *Log) Hurry() { l.hurried.Store(int64(time.Since(l.pulse.epoch)) + 1) }
