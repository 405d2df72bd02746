package wal

import (
	"slices"
	"time"
)

// retryDepartures goes on with those that failed, once it is time. It returns how
// long to wait before the next attempt.
func (s *shelf) retryDepartures() (wait time.Duration) {
	s.lock()
	wait = time.Until(s.leavingDue)
	waiting := slices.Clone(s.leaving)
	delay := s.leavingDelay
	s.unlock()
	if delay == 0 {
		return time.Hour
	}
	if wait > 0 {
		return wait
	}
	failed := false
	for _, d := range waiting {
		if !d.mu.TryLock() { // under way
			failed = true
			continue
		}
		d.mu.Unlock()
		if s.advance(d) != nil {
			failed = true
		}
		s.heartbeat.beat(watching)
	}
	s.lock()
	defer s.unlock()
	if !failed && len(s.leaving) == 0 { // others may have failed meanwhile
		s.leavingDelay = 0
		s.notices = append(s.notices, func() {
			s.opts.Logger.Info("segments that are no longer needed can be deleted again", "trouble", "removal")
		})
		return time.Hour
	}
	s.leavingDelay = min(2*delay, s.limits.Load().ProbeMax)
	s.leavingDue = time.Now().Add(s.leavingDelay)
	return s.leavingDelay
}
