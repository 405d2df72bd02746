package wal

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
)

// undoSalvage deletes the directory of an interrupted salvage or split. It quarantines it
// instead if a record in it may be nowhere else.
func (l *Log) undoSalvage(found *foundDirs) error {
	work := filepath.Join(l.dir, salvageName)
	entries, err := l.disk.List(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		piece := &foundDir{name: filepath.Join(salvageName, e.Name())}
		linked, err := l.sharesFile(piece, slices.Concat(found.segments, found.unread))
		if err != nil {
			return err
		}
		if linked {
			continue
		}
		w, err := l.readToDecide(piece)
		switch {
		case err != nil:
			return err
		case w == nil && errors.Is(piece.fileError, fs.ErrNotExist):
			continue
		case w == nil:
			return l.quarantineSalvage(piece.fileError)
		case w.Unread != nil:
			return l.quarantineSalvage(w.Unread)
		}
		for _, p := range w.Pieces {
			i := slices.IndexFunc(found.segments, func(s *foundDir) bool { return s.sealed && s.first <= p.First && s.last >= p.Last })
			if i < 0 {
				return l.quarantineSalvage(errors.New("no segment has its records"))
			}
			original, err := l.readToDecide(found.segments[i])
			if err != nil {
				return err
			}
			if original == nil {
				return l.quarantineSalvage(errors.New("no segment has its records"))
			}
			in, err := original.Contains(w.WithPiece(p))
			if err != nil {
				return err
			}
			if !in {
				return l.quarantineSalvage(errors.New("a segment has other records"))
			}
		}
	}
	l.reportFinding(FoundSalvage, slog.LevelWarn, "deleted what an interrupted salvage left: the salvage is repeated", "path", salvageName)
	return l.deleteSalvageDir()
}

func (l *Log) quarantineSalvage(reason error) error {
	l.reportFinding(FoundSalvage, slog.LevelError, "put aside what an interrupted salvage left: a record in it may be nowhere else", "path", salvageName, "reason", reason)
	return l.putAside(filepath.Join(l.dir, salvageName), reason)
}
