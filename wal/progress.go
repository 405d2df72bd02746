package wal

import "fmt"

// Progress returns how far the log has come. lastSeq is the seq of its last
// acknowledged record, or 0 if there was none. Each record with a seq below
// confirmedBelow is in the storage, or noted there as lost.
func (l *Log) Progress() (lastSeq, confirmedBelow uint64, err error) {
	if !l.Started() { // the next seq is known only after the start
		return 0, 0, fmt.Errorf("the log has not started yet: %w", l.Full())
	}
	// The order matters: an unsealed segment may meanwhile be sealed, confirmed and
	// unlisted, but a sealed one never becomes unsealed.
	lastSeq, open := l.shelf.open()
	sealed, err := l.Unconfirmed()
	return lastSeq, min(open, sealed), err
}

// open returns the seq of the last acknowledged record, and the seq of the first
// record, present or future, that is not in a sealed segment.
func (s *shelf) open() (last, first uint64) {
	s.lock()
	defer s.unlock()
	first = s.active.nextSeq - s.active.count
	for _, a := range s.unsealed {
		first = min(first, a.first)
	}
	return s.active.nextSeq - 1, first
}
