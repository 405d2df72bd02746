package wal

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"

	"collectord/wal/segment"
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
		path := filepath.Join(work, e.Name(), segment.FileName)
		if slices.ContainsFunc(slices.Concat(found.segments, found.unread), func(s *foundDir) bool { return l.disk.IsSameFile(path, l.fileOf(s.name)) }) {
			continue // a hard link to a segment's file
		}
		w, err := segment.All(l.logID).Scan(l.disk, path)
		if err == nil && w.Unread != nil {
			err = w.Unread
		}
		if err != nil {
			return l.quarantineSalvage(err)
		}
		for _, p := range w.Pieces {
			segments := found.segments
			i := slices.IndexFunc(segments, func(s *foundDir) bool { return s.sealed && s.first <= p.First && s.last >= p.Last })
			if i < 0 || l.read(segments[i]) == nil {
				return l.quarantineSalvage(errors.New("no segment has its records"))
			}
			if in, err := segments[i].scan.Contains(w.WithPiece(p)); err != nil || !in {
				return l.quarantineSalvage(errors.Join(err, errors.New("a segment has other records")))
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
