package shipper

import (
	"context"
	"slices"
	"sync"
)

// stage bounds how many attempts do the same thing at once: compress, which takes a core,
// or upload, which mostly waits for the storage. While some upload, others compress. They
// enter in the order in which they joined, so that the oldest segment goes first.
type stage struct {
	mu      sync.Mutex // guards what follows
	limit   int        // of attempts
	in      int        // attempts
	waiting []turn
}

// turn is an attempt's place in a stage. It is closed when the attempt may enter.
type turn chan struct{}

// setLimit changes the limit. Attempts beyond it go on.
func (s *stage) setLimit(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	s.admitLocked()
}

func (s *stage) admitLocked() {
	for ; s.in < s.limit && len(s.waiting) > 0; s.in++ {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// join takes a turn. The caller calls enter with it.
func (s *stage) join() turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := make(turn)
	s.waiting = append(s.waiting, t)
	s.admitLocked()
	return t
}

// enter waits for a turn. After nil the caller calls leave.
func (s *stage) enter(ctx context.Context, t turn) error {
	select {
	case <-t:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, t); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	} else { // it came meanwhile
		s.leaveLocked()
	}
	return context.Cause(ctx)
}

func (s *stage) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked()
}

func (s *stage) leaveLocked() {
	s.in--
	s.admitLocked()
}
