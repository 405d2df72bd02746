package wal

import (
	"slices"
	"time"
)

// retryLaterLocked schedules retryRemovals. The caller wakes the shelf.
func (s *shelf) retryLaterLocked() {
	if s.removalDelay == 0 {
		s.removalDelay = s.limits.Load().ProbeMin
		s.removalDue = time.Now().Add(s.removalDelay)
	}
}

// retryRemovals continues the failed removals, and deletes the remaining tombstones, if
// a retry is due. It returns how long to wait for the next retry.
func (s *shelf) retryRemovals() (wait time.Duration) {
	s.lock()
	wait = time.Until(s.removalDue)
	waiting := slices.Clone(s.removals)
	delay, tombstonesFailed := s.removalDelay, s.tombstonesFailed
	s.unlock()
	if delay == 0 {
		return time.Hour
	}
	if wait > 0 {
		return wait
	}
	failed := tombstonesFailed && !s.deleteTombstones()
	for _, d := range waiting {
		if !d.mu.TryLock() { // another goroutine is advancing it
			failed = true
			continue
		}
		d.mu.Unlock()
		if s.advance(d) != nil {
			failed = true
		}
		s.rounds.begin(loopShelf)
	}
	s.lock()
	defer s.unlock()
	if !failed && len(s.removals) == 0 { // other removals may have failed meanwhile
		s.removalDelay = 0
		s.notices = append(s.notices, func() {
			s.opts.Logger.Info("removed segments can be deleted again", "trouble", "removal")
		})
		return time.Hour
	}
	s.removalDelay = min(2*delay, s.limits.Load().ProbeMax)
	s.removalDue = time.Now().Add(s.removalDelay)
	return s.removalDelay
}
