package wal

import (
	"maps"
	"math"
	"time"

	"collectord/collectord/histogram"
)

// Stats are counters and gauges that are not in the ledger.
type Stats struct {
	CommitSeconds histogram.Distribution // of commits: the write and, with SyncAlways, the sync
	SyncSeconds   histogram.Distribution // of syncs of frames
	CommitRecords histogram.Distribution // records in a frame
	CommitBytes   histogram.Distribution // bytes of a frame
	CommitErrors  uint64
	Seals         map[string]uint64 // by reason; every reason is listed
	TornBytes     uint64            // cut off unsealed segments at start, without zeros
	Findings      map[Finding]uint64

	// RemovalErrors counts failures to delete a segment that is no longer needed. Each
	// is retried.
	RemovalErrors uint64

	PutAside        int // entries in the quarantine or left in their place, when last measured
	LossNotes       int // waiting for upload
	SealedSegments  int
	KeptSegments    int // see Segment.Keep
	KeptBytes       int64
	KeptCutShort    uint64 // kept segments that were removed early to make room
	Bytes           int64  // of sealed, kept and active segments
	SpoolBytes      int64  // when last measured
	QuarantineBytes int64  // when last measured
	MaxBytes        int64
	QueueBytes      int64 // of enqueued records that wait for a commit
	FreeBytes       int64 // on the disk, when last measured; MaxInt64 before
	// OldestUnshipped is the age of the oldest record that the storage has not
	// confirmed; 0 if there is none. A clock that jumps does not change it. For a
	// moment after a removal it may be up to SealSmallAfter too low.
	OldestUnshipped time.Duration
	// SecondsUntilFull is the time until a bound will be reached if log and disk fill
	// as in the last minutes; +Inf if they do not.
	SecondsUntilFull float64
}

func newStats() Stats {
	stats := Stats{Seals: map[string]uint64{}, FreeBytes: math.MaxInt64}
	for _, reason := range []string{sealSize, sealAge, sealHour, sealRequest, sealShutdown, sealFailure} {
		stats.Seals[reason] = 0
	}
	return stats
}

// metrics are the committer's distributions.
type metrics struct{ commit, sync, records, bytes *histogram.Histogram }

func newMetrics() *metrics {
	return &metrics{
		commit: histogram.NewLatency(), sync: histogram.NewLatency(),
		records: histogram.New(1, 2, 9), bytes: histogram.New(256, 2, 8),
	}
}

// Stats returns a copy of the counters and gauges. It does not wait for the disk.
func (l *Log) Stats() Stats {
	s := l.shelf.statsNow()
	s.Findings = l.findingCounts()
	s.TornBytes = l.tornBytes.Load()
	s.LossNotes = int(l.losses.waiting.Load())
	s.QueueBytes = l.queue.stagedBytes()
	m := l.committer.metrics
	s.CommitSeconds, s.SyncSeconds = m.commit.Seconds(), m.sync.Seconds()
	s.CommitRecords, s.CommitBytes = m.records.Distribution(), m.bytes.Distribution()
	return s
}

func (q *queue) stagedBytes() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.staged.size())
}

func (s *shelf) statsNow() Stats {
	s.lock()
	defer s.unlock()
	stats := s.stats
	stats.Seals = maps.Clone(s.stats.Seals)
	stats.SealedSegments, stats.KeptSegments = len(s.sealed), len(s.kept)
	for _, one := range s.kept {
		stats.KeptBytes += one.bytes
	}
	stats.Bytes = s.sealedBytes + s.active.bytes
	stats.MaxBytes = s.limits.Load().MaxBytes
	if since := s.oldestLocked(); !since.IsZero() {
		stats.OldestUnshipped = max(0, time.Since(since))
	}
	stats.SecondsUntilFull = s.untilFullLocked()
	return stats
}

// oldestLocked is when the oldest record that is not shipped was received; zero if
// there is none.
func (s *shelf) oldestLocked() time.Time {
	oldest := s.oldestReadableLocked()
	for _, u := range s.unread {
		if since := u.since; !u.uncertain && !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
	}
	return oldest
}

func (s *shelf) oldestReadableLocked() time.Time {
	switch {
	case len(s.sealed) > 0 && !s.sealed[0].since.IsZero():
		return s.sealed[0].since
	case len(s.sealed) > 0: // until the disk is measured next
		return s.sealed[0].sealedAt
	case len(s.unsealed) > 0:
		return s.unsealed[0].since
	case s.active.count > 0:
		return s.active.since
	}
	return time.Time{}
}
