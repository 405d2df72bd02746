package wal

import (
	"time"
)

// Limits are the options that can be changed while the log is open. The zero
// value of each field stands for its default, as in Options.
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

// SetLimits puts new limits into effect. What is over one of them is not cut
// off: a log beyond MaxBytes is full until segments were shipped or evicted.
func (l *Log) SetLimits(limits Limits) {
	o := Options{
		SealAfter: limits.SealAfter, SealSmallAfter: limits.SealSmallAfter, MaxBytes: limits.MaxBytes, MinFree: limits.MinFree, WhenFull: limits.WhenFull,
		QueueBytes: limits.QueueBytes, CommitTimeout: limits.CommitTimeout, ProbeMin: limits.ProbeMin, ProbeMax: limits.ProbeMax,
	}.withDefaults()
	l.mu.Lock()
	size := l.opts.sealing().size
	l.opts.SealAfter, l.opts.SealSmallAfter = o.SealAfter, o.SealSmallAfter
	l.opts.MaxBytes, l.opts.MinFree, l.opts.WhenFull = o.MaxBytes, o.MinFree, o.WhenFull
	l.opts.QueueBytes, l.opts.CommitTimeout = o.QueueBytes, o.CommitTimeout
	l.opts.ProbeMin, l.opts.ProbeMax = o.ProbeMin, o.ProbeMax
	changed := l.opts.sealing().size != size
	l.checkBoundsLocked()
	l.mu.Unlock()
	if changed {
		l.logSegmentSize()
	}
	l.signal() // a segment may be due by now
}

// probeDelay is how long to wait before the disk is tried again, given the last
// such delay, or 0.
func (l *Log) probeDelay(last time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return min(max(2*last, l.opts.ProbeMin), l.opts.ProbeMax)
}
