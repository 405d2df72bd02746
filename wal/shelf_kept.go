package wal

import (
	"math"
	"slices"
)

// A kept segment was confirmed by the storage and is still here, in case the storage
// loses it: a loss of power can take what it has confirmed. Kept segments are a cache.
// They are on a list of their own, they count as shipped, and they are removed before
// an append is refused or a segment is evicted for want of room. Nothing on the disk
// says that a segment is kept: to the next start it is sealed and pending.

// Keep is Remove for a segment that is to stay for a while: it counts as shipped and is
// not listed any more, but it can be read until Remove, or Relist. The log may remove it
// earlier, oldest first: kept segments take at most a quarter of MaxBytes, and none of
// the last 2*MinFree bytes of the disk. Keep may be repeated.
func (s *Segment) Keep() {
	s.mu.Lock()
	if !s.removed && !s.kept {
		s.kept = true
		s.shelf.keep(s)
	}
	s.mu.Unlock()
	s.shelf.removeKept()
}

// IsKept reports whether the segment is kept, and was not removed for its room.
func (s *Segment) IsKept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept && !s.removed
}

// Relist lists a kept segment among the sealed ones again, as a start would: the
// storage has lost it. Its records are pending again, and count as recovered. It returns
// false if the segment was removed meanwhile.
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

// Relisted is how often the storage has lost the segment since the log was opened.
func (s *Segment) Relisted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.relisted
}

// removeEarly removes the segment for its room, if it is still kept.
func (s *Segment) removeEarly() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept {
		s.removeLocked(true)
	}
}

func (s *shelf) keep(one *Segment) {
	s.lock()
	defer s.unlock()
	s.unlistLocked(one)
	s.kept = append(s.kept, one)
	s.keptBytes += one.bytes
	s.queue.move(one.counted(), pending, shipped)
	s.checkBoundsLocked()
}

func (s *shelf) relist(one *Segment) {
	s.lock()
	defer s.unlock()
	s.unlistLocked(one)
	one.unlisted = false
	s.keptBytes -= one.bytes
	s.addLocked(one)
	s.queue.recovered(one.counted(), pending)
	s.checkBoundsLocked()
	s.announceLocked()
}

// removeKept removes the oldest kept segments until those that are left are not in
// the way.
func (s *shelf) removeKept() {
	for one := s.keptInTheWay(); one != nil; one = s.keptInTheWay() {
		one.removeEarly()
	}
}

// keptInTheWay returns the kept segment to remove next, or nil. While one that was
// removed can't be deleted, to remove another would make no room.
func (s *shelf) keptInTheWay() *Segment {
	s.lock()
	defer s.unlock()
	if !s.keptAreInTheWayLocked() || slices.ContainsFunc(s.removals, func(d *removal) bool { return d.early }) {
		return nil
	}
	if !s.keptEarly {
		s.keptEarly = true
		s.notices = append(s.notices, func() {
			s.opts.Logger.Warn("removed shipped segments before the time to keep them: they took a quarter of wal.max_bytes, or room was needed (give it more room, or lower shipper.keep)",
				"trouble", "keep")
		})
	}
	return s.kept[0]
}

func (s *shelf) keptAreInTheWayLocked() bool {
	if len(s.kept) == 0 {
		return false
	}
	limits, ahead := s.limits.Load(), s.roomAhead()
	return s.keptBytes > limits.MaxBytes/4 || s.usedLocked()+s.keptLocked() > limits.MaxBytes-ahead ||
		s.stats.FreeBytes < max(2*limits.MinFree, limits.MinFree+ahead)
}

// keptLocked is how many bytes can be made free at once. Should they not be, because
// the disk does not answer, what the log takes is bounded all the same.
func (s *shelf) keptLocked() int64 { return min(s.keptBytes, s.limits.Load().MaxBytes/2) }

// freeLocked is what the disk has free, or can have at once.
func (s *shelf) freeLocked() int64 { return plus(s.stats.FreeBytes, s.keptLocked()) }

// plus adds n to what is free, which may not be known.
func plus(free, n int64) int64 {
	if free > math.MaxInt64-n {
		return math.MaxInt64
	}
	return free + n
}

// keptDeletedLocked notes that the file of a kept segment is deleted, and its room
// free, ahead of the next look at the disk.
func (s *shelf) keptDeletedLocked(d *removal) {
	s.stats.FreeBytes = plus(s.stats.FreeBytes, d.kept)
	s.keptBytes -= d.kept
	d.kept = 0
}

// keptStuckLocked notes that a kept segment can't be deleted now: its room is taken.
func (s *shelf) keptStuckLocked(d *removal) {
	s.keptBytes -= d.kept
	d.kept = 0
}

// removeKeptLocked begins the removal of a kept segment, whose bytes count as kept
// until they are deleted.
func (s *shelf) removeKeptLocked(d *removal) {
	d.kept = d.bytes
	switch {
	case d.early:
		s.stats.KeptCutShort++
	case s.keptEarly:
		s.keptEarly = false
		s.notices = append(s.notices, func() {
			s.opts.Logger.Info("shipped segments are kept for their time again", "trouble", "keep")
		})
	}
}
