package wal

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
)

// withoutStrangers puts aside entries that have the name of a segment and can't be one. It
// returns the others.
func (l *Log) withoutStrangers(all []*named) ([]*named, error) {
	for _, s := range slices.Clone(all) {
		if !s.sound || !s.noFirstFrame || s.run != 0 || !l.isStranger(s, all) {
			continue
		}
		l.found(FoundStray, slog.LevelWarn, "put aside what is not part of a log: it has the name of a segment", "path", filepath.Join(l.dir, s.name))
		if err := l.putAside(filepath.Join(l.dir, s.name), errInTheWay); err != nil {
			return nil, err
		}
		all = withoutNamed(all, s)
	}
	return all, nil
}

// isStranger reports whether s has the name of a segment and can't be one. Two conditions
// must hold: s contains nothing that a log wrote, and either another segment may have the
// record of its first seq or s would have been sealed.
func (l *Log) isStranger(s *named, all []*named) bool {
	taken := slices.ContainsFunc(all, func(o *named) bool {
		if o == s || o.sealed && s.sealed || o.begins >= s.first {
			return false
		}
		if o.sealed { // of two without a file the sealed name is the better evidence
			return o.last >= s.first && (o.isSealed() || o.sound && errors.Is(o.failed, fs.ErrNotExist) && errors.Is(s.failed, fs.ErrNotExist))
		}
		if w := l.read(o); w != nil && w.Unread == nil {
			return w.Last() >= s.first
		}
		return !s.sealed && !errors.Is(o.failed, fs.ErrNotExist) // its unreadable part may contain that record
	})
	if !taken && (s.sealed || !isSealedBehind(s, all)) {
		return false
	}
	if errors.Is(s.failed, fs.ErrNotExist) {
		return true
	}
	w, err := l.scanAll(s.name)
	return err == nil && w.Unread == nil && w.Begin == 0 && len(w.Pieces) == 0
}

// isSealedBehind reports whether a sealed segment has later records than s. Segments are
// sealed in order, so s would then be sealed, too.
func isSealedBehind(s *named, all []*named) bool {
	return slices.ContainsFunc(all, func(o *named) bool { return o.isSealed() && o.first > s.first })
}

// isSealed reports whether s has the name of a sealed segment and a readable file whose
// first frame does not contradict the name.
func (s *named) isSealed() bool {
	return s.sound && s.sealed && s.failed == nil && s.begins == s.first
}
