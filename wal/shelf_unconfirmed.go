package wal

import (
	"fmt"
	"slices"
)

// Unconfirmed returns a seq below which every sealed record is in the storage, and is not
// kept any more, or noted there as lost: the lowest seq of the sealed and kept segments,
// the unreadable ones, the removals under way, and the loss notes that wait for upload. It is 2^63 if there is
// none. It fails until the log has started, or if the loss notes can't be read.
//
// A record that is lost is noted before it leaves the lists, so the lists are read
// first.
func (l *Log) Unconfirmed() (lowest uint64, err error) {
	if !l.Started() {
		return 0, fmt.Errorf("the log has not started yet: %w", l.Full())
	}
	lowest = l.shelf.unconfirmed()
	noted, err := l.losses.unconfirmed()
	return min(lowest, noted), err
}

// unconfirmed is the part of Unconfirmed that the lists tell.
func (s *shelf) unconfirmed() (lowest uint64) {
	lowest = maxSeq
	s.lock()
	defer s.unlock()
	for _, one := range slices.Concat(s.sealed, s.kept, s.unread) { // the next start reads the unreadable again
		lowest = min(lowest, one.first)
	}
	for _, d := range s.removals {
		if d.open > 0 {
			lowest = min(lowest, d.open)
		}
	}
	return lowest
}
