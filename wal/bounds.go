package wal

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// spoolName is where the shipper keeps compressed objects; they count towards
// MaxBytes.
const spoolName = "spool"

// boundsInterval is how often the disk is looked at. In between, the log's own
// bytes are counted exactly.
const boundsInterval = time.Second

// run looks at the disk until the log is closed.
func (s *shelf) run() {
	ticker := time.NewTicker(boundsInterval)
	defer ticker.Stop()
	defer s.heartbeat.stop(watching)
	failing := false
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		s.heartbeat.beat(watching)
		select {
		case <-s.closing:
			return
		case <-ticker.C:
			s.lookAtDisk()
		case <-s.nearFull:
		case <-retry.C:
		}
		retry.Reset(s.retryDepartures())
		if err := s.makeRoom(); err != nil {
			failing = true
			s.opts.Logger.Error("can't make room", "trouble", "make_room", "error", err)
		} else if failing {
			failing = false
			s.opts.Logger.Info("room can be made again", "trouble", "make_room")
		}
	}
}

// makeRoom releases kept segments and then evicts the oldest, if that is wanted, until
// the log is out of reach of its bounds or no segment is left that may go.
func (s *shelf) makeRoom() (err error) {
	s.releaseKept()
	var segments, records int
	for {
		one := s.holdOldest()
		if one == nil {
			break
		}
		err = one.evict()
		one.Release()
		if err != nil {
			err = fmt.Errorf("evict %s: %w", one, err)
			break
		}
		segments++
		records += int(one.counted())
		s.heartbeat.beat(watching)
		s.lookAtDisk()
	}
	if segments > 0 {
		s.opts.Logger.Error("evicted the oldest segments to make room (wal.when_full: drop_oldest)",
			"trouble", "evicted", "segments", segments, "records", records)
	}
	return err
}

// holdOldest returns the segment to evict next, held, or nil.
func (s *shelf) holdOldest() *Segment {
	s.lock()
	defer s.unlock()
	if s.limits.Load().WhenFull != DropOldest || !s.isNearFullLocked() || s.evictionFailsLocked() {
		return nil
	}
	for _, one := range slices.Concat(s.unread, s.sealed) { // what can't be read goes first
		if !one.held {
			one.held = true
			return one
		}
	}
	return nil
}

// isNearFullLocked reports whether room has to be made, ahead of the bounds, so
// that no append need be refused for it.
func (s *shelf) isNearFullLocked() bool {
	ahead := s.roomAhead()
	return s.usedLocked() > s.limits.Load().MaxBytes-ahead || s.freeLocked() < s.limits.Load().MinFree+ahead
}

// roomAhead is how far from the bounds the oldest are dropped.
func (s *shelf) roomAhead() int64 { return min(2*s.sealing().size, s.limits.Load().MaxBytes/4) }

// usedLocked is what counts towards MaxBytes: all but what can be released at once.
func (s *shelf) usedLocked() int64 {
	return s.sealedBytes - s.keptLocked() + s.active.bytes + s.stats.SpoolBytes + s.stats.QuarantineBytes
}

// wakeUp has the watcher of the bounds look now.
func (s *shelf) wakeUp() {
	select {
	case s.nearFull <- struct{}{}:
	default:
	}
}

func (s *shelf) lookAtDisk() {
	spool := s.disk.SizeBelow(filepath.Join(s.dataDir, spoolName))
	quarantine := s.disk.SizeBelow(filepath.Join(s.dir, quarantineName))
	free, err := s.disk.Free(s.dir)
	aside := len(s.quarantined()) + s.aside.look(s.disk, s.dataDir)
	s.dateOldest()
	s.lock()
	defer s.unlock()
	s.stats.SpoolBytes, s.stats.QuarantineBytes, s.stats.PutAside = spool, quarantine, aside
	if err == nil { // a disk that can't be asked will fail a commit soon enough
		s.stats.FreeBytes = free
	}
	s.forecast.look(time.Now(), s.usedLocked(), s.freeLocked())
	s.checkBoundsLocked()
}

// dateOldest finds out how old the oldest sealed segment is, if it is one of
// those found at start. From then on its age is told by the monotonic clock.
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
	from := oldest.sealedAt // the best there is for one that can't be read
	if at := oldest.FirstReceivedAt(); at != 0 {
		from = time.UnixMicro(at)
	}
	since := time.Now().Add(-max(0, s.opts.clock().Sub(from)))
	s.lock()
	oldest.since = since
	s.unlock()
}

// checkBoundsLocked decides whether the log is full.
func (s *shelf) checkBoundsLocked() {
	was := s.full
	limits := s.limits.Load()
	used, limit, floor := s.usedLocked(), limits.MaxBytes, limits.MinFree
	if was != nil { // some distance, so that it does not come and go
		limit -= min(s.sealing().size, limits.MaxBytes/16)
		floor += floor / 16
	}
	switch {
	case used >= limit:
		s.full = fmt.Errorf("it holds %d bytes, wal.max_bytes is %d", used, limits.MaxBytes)
	case s.freeLocked() < floor:
		s.full = fmt.Errorf("the disk has %d bytes free, wal.min_free is %d", s.stats.FreeBytes, limits.MinFree)
	default:
		s.full = nil
	}
	s.queue.setFull(s.full)
	if limits.WhenFull == DropOldest && s.isNearFullLocked() || s.keptAreInTheWayLocked() {
		s.wakeUp()
	}
	switch {
	case was == nil && s.full != nil:
		reason := s.full
		s.notices = append(s.notices, func() {
			s.opts.Logger.Error("log is full: usages are refused until segments were shipped", "trouble", "full", "reason", reason)
		})
	case was != nil && s.full == nil:
		s.notices = append(s.notices, func() { s.opts.Logger.Info("log has room again", "trouble", "full") })
	}
}
