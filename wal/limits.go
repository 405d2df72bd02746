package wal

import (
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
	return &Limits{
		SealAfter: o.SealAfter, SealSmallAfter: o.SealSmallAfter, MaxBytes: o.MaxBytes, MinFree: o.MinFree, WhenFull: o.WhenFull,
		QueueBytes: o.QueueBytes, CommitTimeout: o.CommitTimeout, ProbeMin: o.ProbeMin, ProbeMax: o.ProbeMax,
	}
}

// SetLimits puts new limits into effect. It deletes nothing that exceeds them: a log
// above MaxBytes is full until segments are shipped or evicted.
func (l *Log) SetLimits(limits Limits) {
	size := l.sealing().size
	l.limits.Store(Options{
		SealAfter: limits.SealAfter, SealSmallAfter: limits.SealSmallAfter, MaxBytes: limits.MaxBytes, MinFree: limits.MinFree, WhenFull: limits.WhenFull,
		QueueBytes: limits.QueueBytes, CommitTimeout: limits.CommitTimeout, ProbeMin: limits.ProbeMin, ProbeMax: limits.ProbeMax,
	}.withDefaults().limits())
	l.shelf.lock()
	l.shelf.checkBoundsLocked()
	l.shelf.unlock()
	if l.sealing().size != size {
		l.logSegmentSize()
	}
	l.queue.signal() // the active segment may have to be sealed now
}
