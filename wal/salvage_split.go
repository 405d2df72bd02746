package wal

import (
	"errors"
	"fmt"

	"collectord/wal/segment"
)

// Errors of Split for callers to match. Split can also return a *DamageError.
var (
	// ErrOneFrame means that the segment is a single frame, the smallest possible piece.
	ErrOneFrame = errors.New("it is a single frame, which can't be split")
	// ErrRemoved means that the segment was kept, removed, evicted, salvaged or split
	// before.
	ErrRemoved = errors.New("the segment is not part of the log any more")
)

// Split replaces the segment by two, for a storage that refuses larger objects. It cuts at
// the frame that begins nearest to the middle of the segment's bytes. No record is lost, so
// there is no loss note. Split returns a *DamageError for a damaged segment and leaves it
// as it is, because Salvage must come first. The holder of a segment may split it; the new
// segments are not held.
//
// Both pieces are durable before the segment is renamed to .gone. If a crash comes before
// that rename, the next start deletes the pieces; if it comes after, the segment. The
// pieces are listed once .gone is durable: otherwise a crash could bring back the segment
// after one of its pieces was shipped.
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
	seg.removed, seg.unfinishedPieces = true, nil
	d := seg.removal("")
	d.pieces, d.lowestOpenSeq = pieces, seg.first
	_ = s.beginRemoval(d, func() { // beginRemoval logs errors
		s.unlistLocked(seg)
		for _, p := range pieces {
			s.sealedBytes += p.bytes
		}
		pieces[0].since = seg.since
	})
	return nil
}

// scanUndamaged scans the segment and returns a *DamageError if any byte of it is damaged
// or any record is missing.
func (s *Segment) scanUndamaged() (*segment.Scan, error) {
	want := segment.Wanted{LogID: s.shelf.logID, First: s.first, Last: s.last, AllowOthers: s.reread}
	w, err := want.Scan(s.shelf.disk, s.path())
	if err != nil {
		return nil, err
	}
	if w.Reason == nil && w.IsWhole(s.first, s.last) && !s.reread {
		return w, nil
	}
	damage := &DamageError{Path: s.path(), Offset: w.FramesEnd, Reason: w.Reason}
	if len(w.Damaged) > 0 {
		damage.Offset = w.Damaged[0].From
	}
	if damage.Reason == nil {
		damage.Reason = errors.New("records of the segment's name are missing")
	}
	return nil, damage
}
