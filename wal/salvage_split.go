package wal

import (
	"errors"
	"fmt"

	"collectord/wal/segment"
)

// Errors of Split that callers match. It can also return a *DamageError.
var (
	// ErrOneFrame means that the segment is a single frame, the smallest piece there
	// is.
	ErrOneFrame = errors.New("it is a single frame, which can't be split")
	// ErrRemoved means that the segment was kept, removed, evicted, salvaged or split before.
	ErrRemoved = errors.New("the segment is not part of the log any more")
)

// Split replaces the segment by two, cut at the frame that begins nearest to the middle
// of its bytes, for a storage that refuses larger objects. No record is lost, so there
// is no loss note. A damaged segment stays as it is, with a *DamageError: Salvage is
// for that. The holder of a segment may split it; the new segments are not held.
//
// Both are durable before the segment is renamed to .gone. After a crash before that
// rename, the next start deletes the pieces; after it, the segment. The pieces are
// listed once .gone is durable: otherwise one could be shipped, and after a crash the
// segment with the same records.
func (s *Segment) Split() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shelf.salvageMu.Lock()
	defer s.shelf.salvageMu.Unlock()
	err := ErrRemoved
	if !s.removed && !s.kept {
		err = s.shelf.split(s)
	}
	if err != nil {
		return fmt.Errorf("split %s: %w", s, err)
	}
	return nil
}

func (s *shelf) split(seg *Segment) error {
	w, err := seg.scanUndamaged()
	if err != nil {
		return err
	}
	halves, ok, err := w.Halves()
	if err != nil {
		return err
	}
	if !ok {
		return ErrOneFrame
	}
	w.Pieces = halves
	pieces, err := s.makePieces(seg, w)
	if err != nil {
		return err
	}
	seg.removed, seg.made = true, nil
	d := seg.removal("")
	d.pieces, d.open = pieces, seg.first
	_ = s.beginRemoval(d, func() { // errors are logged
		s.unlistLocked(seg)
		for _, p := range pieces {
			s.sealedBytes += p.bytes
		}
		pieces[0].since = seg.since
	})
	return nil
}

// scanUndamaged scans the segment. It returns a *DamageError if any byte of it is
// damaged.
func (s *Segment) scanUndamaged() (*segment.Scan, error) {
	want := segment.Wanted{LogID: s.shelf.logID, First: s.first, Last: s.last, Others: s.reread}
	w, err := want.Scan(s.shelf.disk, s.path())
	if err != nil {
		return nil, err
	}
	if w.Reason == nil && w.IsWhole(s.first, s.last) && !s.reread {
		return w, nil
	}
	damage := &DamageError{Path: s.path(), Offset: w.End, Reason: w.Reason}
	if len(w.Damaged) > 0 {
		damage.Offset = w.Damaged[0].From
	}
	if damage.Reason == nil {
		damage.Reason = errors.New("records of the segment's name are missing")
	}
	return nil, damage
}
