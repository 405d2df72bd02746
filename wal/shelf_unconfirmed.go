package wal

import (
	"fmt"
	"slices"
)

// Unconfirmed returns the lowest seq of all sealed, kept and unreadable segments, removals
// under way, and loss notes that wait for upload. It is 2^63 if there are none. Every
// sealed record below it is in the storage, or is noted there as lost. It is 1 if the loss
// notes can't be listed, so that segments are shipped nevertheless. Unconfirmed fails until
// the log has started.
//
// A loss is noted before its record leaves the lists. So Unconfirmed reads the lists first,
// and a record that becomes lost meanwhile is in one of the two.
func (l *Log) Unconfirmed() (lowest uint64, err error) {
	if !l.Started() {
		return 0, fmt.Errorf("the log has not started yet: %w", l.Full())
	}
	lowest = l.shelf.unconfirmed()
	return min(lowest, l.losses.unconfirmed()), nil
}

// unconfirmed is the lowest seq of the shelf's lists, for Unconfirmed.
func (s *shelf) unconfirmed() (lowest uint64) {
	lowest = maxSeq
	s.lock()
	defer s.unlock()
	for _, seg := range slices.Concat(s.sealed, s.kept, s.unread) { // the next start reads the unreadable ones again
		lowest = min(lowest, seg.first)
	}
	for _, d := range s.removals {
		if d.lowestOpenSeq > 0 {
			lowest = min(lowest, d.lowestOpenSeq)
		}
	}
	return lowest
}
