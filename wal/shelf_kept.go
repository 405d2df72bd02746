package wal

import (
	"math"
	"slices"
)

// The storage has confirmed a kept segment. The log still has it, because a power loss at
// the storage can destroy what the storage confirmed. Kept segments are a cache: they have
// their own list, count as shipped, and are removed before an append is refused or a
// segment is evicted for lack of room. The disk does not record that a segment is kept, so
// to the next start it is sealed and pending.

// Keep marks a confirmed segment as shipped and takes it off the list of Sealed, but leaves
// it readable until Remove or Relist. The log may remove it earlier, oldest first: kept
// segments take at most a quarter of MaxBytes, and none of the last 2*MinFree bytes of the
// disk. Keep may be repeated.
func (s *Segment) Keep() {
	s.mu.Lock()
	if !s.removed && !s.kept {
		s.kept = true
		s.shelf.keep(s)
	}
	s.mu.Unlock()
	s.shelf.removeKept()
}

// IsKept reports whether the segment is kept and has not been removed.
func (s *Segment) IsKept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept && !s.removed
}

// Relist returns a kept segment to the list of Sealed, as a start would, because the
// storage has lost it. Its records are pending again and count as recovered. It returns
// false if the segment is not kept or has been removed.
func (s *Segment) Relist() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed || !s.kept {
		return false
	}
	s.kept = false
	s.relisted++
	s.shelf.relist(s)
	return true
}

// Relisted is how often Relist has returned the segment to the list since the log was
// opened.
func (s *Segment) Relisted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.relisted
}

// removeEarly removes the segment to make room, if it is still kept.
func (s *Segment) removeEarly() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept {
		s.removeLocked(true)
	}
}

func (s *shelf) keep(seg *Segment) {
	s.lock()
	defer s.unlock()
	s.unlistLocked(seg)
	s.kept = append(s.kept, seg)
	s.keptBytes += seg.bytes
	s.queue.moveRecords(seg.ledgerCount(), pending, shipped)
	s.checkBoundsLocked()
}

func (s *shelf) relist(seg *Segment) {
	s.lock()
	defer s.unlock()
	s.unlistLocked(seg)
	seg.unlisted = false
	s.keptBytes -= seg.bytes
	s.addLocked(seg)
	s.queue.countRecovered(seg.ledgerCount(), pending)
	s.checkBoundsLocked()
	s.announceLocked()
}

// removeKept removes the oldest kept segments until the rest are within their limits.
func (s *shelf) removeKept() {
	for seg := s.nextKeptToRemove(); seg != nil; seg = s.nextKeptToRemove() {
		seg.removeEarly()
	}
}

// nextKeptToRemove returns the kept segment to remove next, or nil. It returns nil while an
// earlier removal waits for its deletion, because another removal would free no space
// either.
func (s *shelf) nextKeptToRemove() *Segment {
	s.lock()
	defer s.unlock()
	if !s.keptExceedLimitsLocked() || slices.ContainsFunc(s.removals, func(d *removal) bool { return d.early }) {
		return nil
	}
	if !s.keptRemovedEarly {
		s.keptRemovedEarly = true
		s.notices = append(s.notices, func() {
			s.opts.Logger.Warn("removed shipped segments before the time to keep them: they took a quarter of wal.max_bytes, or room was needed (give it more room, or lower shipper.keep)",
				"trouble", "keep")
		})
	}
	return s.kept[0]
}

func (s *shelf) keptExceedLimitsLocked() bool {
	if len(s.kept) == 0 {
		return false
	}
	limits, margin := s.limits.Load(), s.evictionMargin()
	return s.keptBytes > limits.MaxBytes/4 || s.usedLocked()+s.reclaimableLocked() > limits.MaxBytes-margin ||
		s.stats.FreeBytes < max(2*limits.MinFree, limits.MinFree+margin)
}

// reclaimableLocked is how many bytes removing kept segments can free at once. It is at
// most half of MaxBytes, so that the log stays bounded if the disk does not answer.
func (s *shelf) reclaimableLocked() int64 { return min(s.keptBytes, s.limits.Load().MaxBytes/2) }

// freeLocked is the disk's free space, including the space that kept segments can free.
func (s *shelf) freeLocked() int64 { return addSaturated(s.stats.FreeBytes, s.reclaimableLocked()) }

// addSaturated adds n to free, which is MaxInt64 while it is unknown.
func addSaturated(free, n int64) int64 {
	if free > math.MaxInt64-n {
		return math.MaxInt64
	}
	return free + n
}

// keptDeletedLocked adds the space of a deleted kept segment to the free space, before the
// next measurement does.
func (s *shelf) keptDeletedLocked(d *removal) {
	s.stats.FreeBytes = addSaturated(s.stats.FreeBytes, d.keptBytes)
	s.keptBytes -= d.keptBytes
	d.keptBytes = 0
}

// keptStuckLocked records that a kept segment can't be deleted now, so its space is not
// available.
func (s *shelf) keptStuckLocked(d *removal) {
	s.keptBytes -= d.keptBytes
	d.keptBytes = 0
}

// removeKeptLocked begins the removal of a kept segment. Its bytes count as kept until they
// are deleted.
func (s *shelf) removeKeptLocked(d *removal) {
	d.keptBytes = d.bytes
	switch {
	case d.early:
		s.stats.KeptCutShort++
	case s.keptRemovedEarly:
		s.keptRemovedEarly = false
		s.notices = append(s.notices, func() {
			s.opts.Logger.Info("shipped segments are kept for their time again", "trouble", "keep")
		})
	}
}
