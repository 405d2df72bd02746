package wal

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
)

// putStrayDirsAside puts aside entries that have the name of a segment and can't be one. It
// returns the others.
func (l *Log) putStrayDirsAside(all []*foundDir) ([]*foundDir, error) {
	for _, s := range slices.Clone(all) {
		if !s.validName || !s.noFirstFrame || s.run != 0 || !l.isStray(s, all) {
			continue
		}
		if l.doubt != nil {
			return nil, l.doubt
		}
		l.reportFinding(FoundStray, slog.LevelWarn, "put aside an entry that is not part of a log: it has the name of a segment", "path", filepath.Join(l.dir, s.name))
		if err := l.putAside(filepath.Join(l.dir, s.name), errInTheWay); err != nil {
			return nil, err
		}
		all = withoutEntry(all, s)
	}
	return all, nil
}

// isStray reports whether s has the name of a segment and can't be one. Two conditions
// must hold: s contains nothing that a log wrote, and either another segment may have the
// record of its first seq or s would have been sealed.
func (l *Log) isStray(s *foundDir, all []*foundDir) bool {
	taken := slices.ContainsFunc(all, func(o *foundDir) bool {
		if o == s || o.sealed && s.sealed || o.firstFrameSeq >= s.first {
			return false
		}
		if o.sealed { // of two names without a file, the sealed one is the better evidence
			return o.last >= s.first && (o.isTrustedSealed() || o.validName && errors.Is(o.fileError, fs.ErrNotExist) && errors.Is(s.fileError, fs.ErrNotExist))
		}
		if w := l.read(o); w != nil && w.Unread == nil {
			return w.Last() >= s.first
		}
		return !s.sealed && !errors.Is(o.fileError, fs.ErrNotExist) // its unreadable part may contain that record
	})
	if !taken && (s.sealed || !hasSealedAfter(s, all)) {
		return false
	}
	w := l.read(s)
	if w == nil { // a file that can't be read may contain a record, so its segment is left in its place
		return errors.Is(s.fileError, fs.ErrNotExist)
	}
	return w.Unread == nil && w.HeaderEnd == 0 && len(w.Pieces) == 0
}

// hasSealedAfter reports whether a sealed segment has later records than s. Segments are
// sealed in order, so s would then be sealed, too.
func hasSealedAfter(s *foundDir, all []*foundDir) bool {
	return slices.ContainsFunc(all, func(o *foundDir) bool { return o.isTrustedSealed() && o.first > s.first })
}

// isTrustedSealed reports whether s has the name of a sealed segment and a readable
// file whose first frame does not contradict the name.
func (s *foundDir) isTrustedSealed() bool {
	return s.validName && s.sealed && s.fileError == nil && s.firstFrameSeq == s.first
}
