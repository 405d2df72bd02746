package shipper

import (
	"context"
	"sync"
)

// stage bounds how many attempts do the same thing at once: compress, which takes a core,
// or upload, which mostly waits for the storage. While some upload, others compress.
type stage struct {
	mu    sync.Mutex    // guards what follows
	limit int           // of attempts
	in    int           // attempts
	room  chan struct{} // closed, and replaced, when there may be room for one more
}

func newStage() *stage { return &stage{room: make(chan struct{})} }

// setLimit changes the limit. Attempts beyond it go on.
func (s *stage) setLimit(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit > s.limit {
		s.wakeLocked()
	}
	s.limit = limit
}

func (s *stage) wakeLocked() {
	close(s.room)
	s.room = make(chan struct{})
}

// enter waits until there is room. After nil the caller calls leave.
func (s *stage) enter(ctx context.Context) error {
	for {
		s.mu.Lock()
		room, enters := s.room, s.in < s.limit
		if enters {
			s.in++
		}
		s.mu.Unlock()
		if enters {
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *stage) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in--
	s.wakeLocked()
}
