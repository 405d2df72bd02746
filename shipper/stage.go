package shipper

import (
	"context"
	"slices"
	"sync"
)

// stage limits how many attempts do the same work at once: compress, which occupies a
// core, or upload, which mostly waits for the storage. Some attempts compress while
// others upload. Attempts enter in the order in which they joined, so that the oldest
// segment goes first.
type stage struct {
	mu      sync.Mutex // guards the fields below
	limit   int        // max attempts inside
	inside  int        // attempts inside
	waiting []turn
}

// turn is an attempt's place in the queue of a stage. It is closed when the attempt may
// enter.
type turn chan struct{}

// setLimit changes the limit. Attempts that are already inside continue.
func (s *stage) setLimit(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	s.admitLocked()
}

func (s *stage) admitLocked() {
	for ; s.inside < s.limit && len(s.waiting) > 0; s.inside++ {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// join queues an attempt. The caller passes the turn to enter.
func (s *stage) join() turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := make(turn)
	s.waiting = append(s.waiting, t)
	s.admitLocked()
	return t
}

// enter waits for the turn. If it returns nil, the caller must call leave.
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
	} else { // the turn came meanwhile
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
	s.inside--
	s.admitLocked()
}
