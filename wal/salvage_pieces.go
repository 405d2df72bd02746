package wal

import (
	"errors"
	"io/fs"
	"path/filepath"

	"collectord/wal/segment"
)

// makePieces writes the pieces durably, under their sealed names beside the original. A
// single piece with all records replaces the original's file instead.
func (s *shelf) makePieces(seg *Segment, w *segment.Scan) (pieces []*Segment, err error) {
	if err := s.deletePieces(&seg.unfinishedPieces); err != nil {
		return nil, err
	}
	inPlace := w.IsWhole(seg.first, seg.last) && !seg.reread
	work := filepath.Join(s.dir, salvageName)
	if err := s.deleteSalvageDir(); err != nil {
		return nil, err
	}
	if err := s.disk.MkdirDurably(work); err != nil {
		return nil, err
	}
	for _, p := range w.Pieces {
		name := segment.SealedName(p.First, p.Last)
		size, err := w.Copy(p, filepath.Join(work, name))
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(s.dir, name)
		if inPlace { // the piece has the original's name, so only the file is replaced
			dir = seg.dir
			if err := s.disk.RenameNew(filepath.Join(work, name, segment.FileName), filepath.Join(dir, segment.FileName)); err != nil {
				return nil, err
			}
			if err := s.disk.SyncDir(dir); err != nil {
				return nil, err
			}
		} else {
			if err := s.clearPiece(name, w); err != nil {
				return nil, err
			}
			seg.unfinishedPieces = append(seg.unfinishedPieces, dir)
			if err := s.disk.RenameDurably(filepath.Join(work, name), dir); err != nil {
				return nil, err
			}
		}
		pieces = append(pieces, &Segment{shelf: s, dir: dir, first: p.First, last: p.Last, bytes: size, sealedAt: seg.sealedAt})
	}
	return pieces, s.deleteSalvageDir()
}

// deletePieces durably deletes the pieces of an unfinished salvage or split, whose segment
// stays whole until it is shipped, evicted, salvaged or split.
func (s *shelf) deletePieces(dirs *[]string) error {
	if len(*dirs) == 0 {
		return nil
	}
	for _, dir := range *dirs {
		// The rename to .gone comes first: a sealed name without a file would count as a
		// loss.
		if err := s.deleteRedundant(filepath.Base(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	*dirs = nil
	return nil
}

// deleteSalvageDir deletes the directory in which pieces are written. The original contains
// every record in it.
func (b *base) deleteSalvageDir() error {
	work := filepath.Join(b.dir, salvageName)
	if info, err := b.disk.Stat(work); err != nil {
		return ignoreMissing(err)
	} else if !info.IsDir() {
		return b.quarantineDir(salvageName)
	}
	entries, err := b.disk.List(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, last, ending, ok := parseName(e.Name()); !ok || last == 0 || ending != "" && ending != unreadSuffix && ending != tailSuffix || !e.IsDir() {
			break // not from a salvage: deleteDir puts it aside with the directory
		}
		if err := b.deleteDir(filepath.Join(work, e.Name())); err != nil {
			return err
		}
	}
	return b.deleteDir(work)
}

// clearPiece deletes a piece with that name that a failed attempt left. The piece goes to
// the quarantine if it can't be read or contains a frame that the original lacks.
func (b *base) clearPiece(name string, original *segment.Scan) error {
	w, err := b.scanRepeatedly(name)
	if isTransient(err) {
		return err
	}
	if err != nil || w.Missing || w.Unread != nil {
		if _, err := b.disk.Stat(filepath.Join(b.dir, name)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return b.quarantineDir(name)
	}
	in, err := original.Contains(w)
	if err != nil {
		return err
	}
	if !in {
		return b.quarantineDir(name)
	}
	return b.deleteRedundant(name)
}
