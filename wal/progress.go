package wal

import "fmt"

// Progress is how far the log has come: the seq of its last acknowledged record, 0 if
// there was none, and the seq below which each record is in the storage, or noted there
// as lost.
func (l *Log) Progress() (lastSeq, confirmedBelow uint64, err error) {
	if !l.Started() { // only then is the next seq known
		return 0, 0, fmt.Errorf("the log has not started yet: %w", l.Full())
	}
	// What is not sealed comes first: it is sealed, and no longer listed, meanwhile, but
	// never the other way round.
	lastSeq, open := l.shelf.open()
	sealed, err := l.Unconfirmed()
	return lastSeq, min(open, sealed), err
}

// open returns the seq of the last acknowledged record, and that of the first one that
// is not in a sealed segment, or will be.
func (s *shelf) open() (last, first uint64) {
	s.lock()
	defer s.unlock()
	first = s.active.next - s.active.count
	for _, a := range s.unsealed {
		first = min(first, a.first)
	}
	return s.active.next - 1, first
}
