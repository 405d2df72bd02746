package wal

import (
	"fmt"
	"path/filepath"
	"time"
)

// spoolName is the directory, below the data directory, in which the shipper keeps
// compressed objects. They count towards MaxBytes.
const spoolName = "spool"

// boundsInterval is the default of Options.BoundsInterval.
const boundsInterval = time.Second

// run watches the bounds until the log is closed.
func (s *shelf) run() {
	ticker := time.NewTicker(s.opts.BoundsInterval)
	defer ticker.Stop()
	defer s.rounds.end(loopShelf)
	failing := false
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		s.rounds.begin(loopShelf)
		select {
		case <-s.closing:
			return
		case <-ticker.C:
			s.checkDisk()
		case <-s.wake:
		case <-retry.C:
		}
		retry.Reset(s.retryRemovals())
		if err := s.makeRoom(); err != nil {
			failing = true
			s.opts.Logger.Error("can't make room", "trouble", "make_room", "error", err)
		} else if failing {
			failing = false
			s.opts.Logger.Info("room can be made again", "trouble", "make_room")
		}
	}
}

// isNearFullLocked reports whether the log is near a bound. Eviction begins there, so that
// appends need not be refused.
func (s *shelf) isNearFullLocked() bool {
	margin := s.evictionMargin()
	return s.usedLocked() > s.limits.Load().MaxBytes-margin || s.freeLocked() < s.limits.Load().MinFree+margin
}

// evictionMargin is the distance from a bound, in bytes, at which eviction begins.
func (s *shelf) evictionMargin() int64 { return min(2*s.sealing().size, s.limits.Load().MaxBytes/4) }

// usedLocked is the number of bytes that counts towards MaxBytes.
func (s *shelf) usedLocked() int64 {
	return s.sealedBytes - s.reclaimableLocked() + s.active.bytes + s.stats.SpoolBytes + s.stats.QuarantineBytes
}

// wakeUp makes run check the bounds now.
func (s *shelf) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// checkDisk measures the spool, the quarantine and the free space, and checks the bounds.
func (s *shelf) checkDisk() {
	spool := s.disk.SizeBelow(filepath.Join(s.dataDir, spoolName))
	quarantine := s.disk.SizeBelow(filepath.Join(s.dir, quarantineName))
	free, err := s.disk.Free(s.dir)
	aside := s.refreshAside()
	s.dateOldest()
	s.lock()
	defer s.unlock()
	s.stats.SpoolBytes, s.stats.QuarantineBytes, s.stats.PutAside = spool, quarantine, aside
	if err == nil { // otherwise a commit will fail and report the disk
		s.stats.FreeBytes = free
	}
	s.forecast.observe(time.Now(), s.usedLocked(), s.freeLocked())
	s.checkBoundsLocked()
}

// dateOldest sets the age of the oldest sealed segment by the wall clock, if a start found
// it. From then on the monotonic clock measures its age.
func (s *shelf) dateOldest() {
	s.lock()
	var oldest *Segment
	if len(s.sealed) > 0 && s.sealed[0].since.IsZero() {
		oldest = s.sealed[0]
	}
	s.unlock()
	if oldest == nil {
		return
	}
	from := oldest.sealedAt // used if the first record can't be read
	if at := oldest.FirstReceivedAt(); at != 0 {
		from = time.UnixMicro(at)
	}
	since := time.Now().Add(-max(0, s.opts.clock().Sub(from)))
	s.lock()
	oldest.since = since
	s.unlock()
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// checkBoundsLocked decides whether the log is full.
func (s *shelf) checkBoundsLocked() {
	was := s.full
	limits := s.limits.Load()
	used, limit, floor := s.usedLocked(), limits.MaxBytes, limits.MinFree
	if was != nil { // hysteresis keeps the state from alternating
		limit -= min(s.sealing().size, limits.MaxBytes/16)
		floor += floor / 16
	}
	switch {
	case used >= limit:
		s.full = fmt.Errorf("%.1f MiB are used, wal.max_bytes is %.1f MiB", mebibytes(used), mebibytes(limits.MaxBytes))
	case s.freeLocked() < floor:
		s.full = fmt.Errorf("the disk has %.1f MiB free, wal.min_free is %.1f MiB", mebibytes(s.stats.FreeBytes), mebibytes(limits.MinFree))
	default:
		s.full = nil
	}
	s.queue.setFull(s.full)
	if limits.WhenFull == DropOldest && s.isNearFullLocked() || s.keptExceedLimitsLocked() {
		s.wakeUp()
	}
	switch {
	case was == nil && s.full != nil:
		reason := s.full
		s.notices = append(s.notices, func() {
			s.opts.Logger.Error("the log is full: usages are rejected until there is room (see to the destination, make room on the disk, or raise wal.max_bytes)", "trouble", "full", "error", reason)
		})
	case was != nil && s.full == nil:
		s.notices = append(s.notices, func() { s.opts.Logger.Info("the log has room again", "trouble", "full") })
	}
}
