package wal

import (
	"maps"
	"time"
)

// Stats are counters and gauges beside the ledger.
type Stats struct {
	CommitSeconds Distribution // of commits: write and, with SyncAlways, sync
	SyncSeconds   Distribution // of syncs of frames
	CommitRecords Distribution // how full the frames are
	CommitBytes   Distribution
	CommitErrors  uint64
	Seals         map[string]uint64 // by reason; every reason is there
	TornBytes     uint64            // cut off unsealed segments at start
	Findings      map[Finding]uint64

	// RemovalErrors are failures to delete a segment that is no longer needed. Each
	// is tried again.
	RemovalErrors uint64

	LossNotes       int // waiting for upload
	SealedSegments  int
	Bytes           int64 // sealed and active segments
	SpoolBytes      int64 // as of the last look
	QuarantineBytes int64 // as of the last look
	MaxBytes        int64
	QueueBytes      int64 // records of Enqueue waiting for a commit
	FreeBytes       int64 // on the disk, as of the last look
	// OldestUnshipped is the age of the oldest record that the storage has not
	// confirmed; 0 if there is none. A clock that jumps does not change it. For a
	// moment after a removal it may be up to SealAfter too low.
	OldestUnshipped time.Duration
	// SecondsUntilFull is when a bound will be reached if the log and its disk
	// go on to fill as they did in the last minutes; +Inf if they do not.
	SecondsUntilFull float64
}

// Stats returns a copy of the log's counters and gauges. It does not wait for
// the disk.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	s := l.stats
	s.Seals = maps.Clone(l.stats.Seals)
	s.Findings = maps.Clone(l.stats.Findings)
	s.SealedSegments = len(l.sealed)
	s.Bytes = l.sealedBytes + l.active.bytes
	s.MaxBytes = l.opts.MaxBytes
	s.QueueBytes = int64(l.staged.size())
	if since := l.oldestLocked(); !since.IsZero() {
		s.OldestUnshipped = max(0, time.Since(since))
	}
	s.SecondsUntilFull = l.untilFullLocked()
	l.mu.Unlock()
	s.CommitSeconds, s.SyncSeconds = l.histogram.commit.Seconds(), l.histogram.sync.Seconds()
	s.CommitRecords, s.CommitBytes = l.histogram.records.Distribution(), l.histogram.bytes.Distribution()
	return s
}

// oldestLocked is when the oldest record that is not shipped was received.
func (l *Log) oldestLocked() time.Time {
	oldest := l.oldestReadableLocked()
	for _, s := range l.unread {
		if since := s.since; !s.uncertain && !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
	}
	return oldest
}

func (l *Log) oldestReadableLocked() time.Time {
	switch {
	case len(l.sealed) > 0 && !l.sealed[0].since.IsZero():
		return l.sealed[0].since
	case len(l.sealed) > 0: // until the next look at the disk
		return l.sealed[0].sealedAt
	case len(l.unsealed) > 0:
		return l.unsealed[0].since
	case l.active.count > 0:
		return l.active.since
	}
	return time.Time{}
}
