package wal

import "time"

// Reading sealed segments, which is what shipping begins with, gives way to UDP
// usages: what is sealed is safe where it is, and what waits in memory, or in the
// kernel behind it, is not. While more than one part in giveWayQueue of the queue
// is taken, a reader pauses after each frame, for giveWayMost at most, so that it
// gets on at ten megabytes a second or more; once half of MaxBytes is taken it is
// shipping that makes room, and nothing gives way any more.
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
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.staged.size()) > l.opts.QueueBytes/giveWayQueue && l.sealedBytes < l.opts.MaxBytes/2
}
