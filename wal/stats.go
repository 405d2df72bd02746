package wal

import (
	"maps"
	"math"
	"time"

	"collectord/collectord/histogram"
)

// Stats are the counters and gauges outside the ledger.
type Stats struct {
	CommitSeconds histogram.Distribution // duration of commits: the write and, with SyncAlways, the sync
	SyncSeconds   histogram.Distribution // duration of syncs of frames
	CommitRecords histogram.Distribution // records per frame
	CommitBytes   histogram.Distribution // bytes per frame
	CommitErrors  uint64
	Seals         map[string]uint64 // by reason; contains every reason
	TornBytes     uint64            // bytes cut off unsealed segments at start, without zeros
	Findings      map[Finding]uint64

	// RemovalErrors counts failures to delete a segment that left the log. Each is retried.
	RemovalErrors uint64

	PutAside        int // entries in the quarantine or left in their places, when last measured
	LossNotes       int // waiting for upload
	SealedSegments  int
	KeptSegments    int // see Segment.Keep
	KeptBytes       int64
	KeptCutShort    uint64 // kept segments that were removed early to make room
	Bytes           int64  // of all segments, including those that are being removed
	SpoolBytes      int64  // when last measured
	QuarantineBytes int64  // when last measured
	MaxBytes        int64
	QueueBytes      int64 // of enqueued records that wait for a commit
	FreeBytes       int64 // on the disk, when last measured; MaxInt64 until then
	// OldestUnshipped is the age of the oldest record that the storage has not confirmed; 0
	// if there is none. A jump of the wall clock does not change it. Right after a removal
	// it may be too low by up to SealSmallAfter.
	OldestUnshipped time.Duration
	// SecondsUntilFull is the time until a bound is reached if log and disk continue to fill as
	// fast as in the last minutes; +Inf if they do not fill.
	SecondsUntilFull float64
}

func newStats() Stats {
	stats := Stats{Seals: map[string]uint64{}, FreeBytes: math.MaxInt64}
	for _, reason := range []string{sealedBySize, sealedByAge, sealedByHour, sealedByRequest, sealedByShutdown, sealedByFailure} {
		stats.Seals[reason] = 0
	}
	return stats
}

// metrics are the committer's histograms.
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

// oldestLocked is when the oldest unshipped record was received; zero if there is none.
func (s *shelf) oldestLocked() time.Time {
	oldest := s.oldestReadableLocked()
	for _, u := range s.unread {
		if since := u.since; !u.countUncertain && !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
	}
	return oldest
}

func (s *shelf) oldestReadableLocked() time.Time {
	switch {
	case len(s.sealed) > 0 && !s.sealed[0].since.IsZero():
		return s.sealed[0].since
	case len(s.sealed) > 0: // until dateOldest sets since
		return s.sealed[0].sealedAt
	case len(s.unsealed) > 0:
		return s.unsealed[0].since
	case s.active.count > 0:
		return s.active.since
	}
	return time.Time{}
}
