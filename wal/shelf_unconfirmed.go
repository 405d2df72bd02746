package wal

import (
	"fmt"
)

// Unconfirmed is the lowest seq of the sealed segments, and of what the disk does
// not give, that is neither in the storage nor noted there as lost. What is lost is
// noted before it is off the books, so that the order here matters.
func (l *Log) Unconfirmed() (lowest uint64, err error) {
	if !l.Started() {
		return 0, fmt.Errorf("what is in the log is not known yet: %w", l.Full())
	}
	lowest = l.shelf.unconfirmed()
	noted, err := l.losses.unconfirmed()
	return min(lowest, noted), err
}

func (s *shelf) unconfirmed() (lowest uint64) {
	lowest = maxSeq
	s.lock()
	defer s.unlock()
	for _, one := range s.sealed {
		lowest = min(lowest, one.first)
	}
	for _, one := range s.unread { // the next start reads these again
		lowest = min(lowest, one.first)
	}
	for _, d := range s.removals {
		if d.open > 0 {
			lowest = min(lowest, d.open)
		}
	}
	return lowest
}
