package wal

import (
	"cmp"
	"time"
)

// Limits are the options that can change while the log is open. A zero field means its
// default, as in Options.
type Limits struct {
	SealAfter          time.Duration
	SealSmallAfter     time.Duration
	MaxBytes           int64
	MinFree            int64
	WhenFull           WhenFull
	QueueBytes         int64
	CommitTimeout      time.Duration
	ProbeMin, ProbeMax time.Duration
}

func (o Options) limits() *Limits {
	l := Limits{
		SealAfter: o.SealAfter, SealSmallAfter: o.SealSmallAfter, MaxBytes: o.MaxBytes, MinFree: o.MinFree, WhenFull: o.WhenFull,
		QueueBytes: o.QueueBytes, CommitTimeout: o.CommitTimeout, ProbeMin: o.ProbeMin, ProbeMax: o.ProbeMax,
	}.withDefaults()
	return &l
}

func (l Limits) withDefaults() Limits {
	l.SealSmallAfter = cmp.Or(l.SealSmallAfter, l.SealAfter, 5*time.Minute)
	l.SealAfter = cmp.Or(l.SealAfter, time.Minute)
	l.MaxBytes = cmp.Or(l.MaxBytes, 4<<30)
	l.QueueBytes = cmp.Or(l.QueueBytes, 8<<20)
	l.CommitTimeout = cmp.Or(l.CommitTimeout, 30*time.Second)
	l.ProbeMin = cmp.Or(l.ProbeMin, time.Second)
	l.ProbeMax = cmp.Or(l.ProbeMax, 30*time.Second)
	return l
}

// SetLimits puts new limits into effect. It deletes nothing that exceeds them: a log
// above MaxBytes is full until segments are shipped or evicted.
func (l *Log) SetLimits(limits Limits) {
	size := l.sealing().size
	limits = limits.withDefaults()
	l.limits.Store(&limits)
	l.shelf.lock()
	l.shelf.checkBoundsLocked()
	l.shelf.unlock()
	if l.sealing().size != size {
		l.logSegmentSize()
	}
	l.queue.signal() // the active segment may have to be sealed now
}
