package wal

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
)

// isPiece reports whether s contains every intact record of p. It returns false if p has no
// intact record or can't be read completely, because its records may be nowhere else. An s
// without an intact record is not read again: an error of its file would be taken for one of p.
func (l *Log) isPiece(p, s *foundDir) (bool, error) {
	w, err := l.readToDecide(p)
	if err != nil {
		return false, err
	}
	if w == nil || w.Unread != nil || len(w.Pieces) == 0 || len(s.scan.Pieces) == 0 {
		return false, nil //nolint:nilerr // unreadable records may be in no other segment
	}
	return s.scan.Contains(w)
}

// resolveOverlap resolves the conflict between the first two segments of all, which claim
// the same records. It returns the segments that are left.
func (l *Log) resolveOverlap(found *foundDirs, all []*foundDir) ([]*foundDir, error) {
	a, b := all[0], all[1]
	wa := l.read(a)
	wb, err := l.readToDecide(b)
	if err != nil {
		return nil, err
	}
	leaveB := func() ([]*foundDir, error) {
		// The next start may be able to read the file.
		if why := errors.Join(a.fileError, b.fileError, a.pagesError(), b.pagesError()); !b.sealed && why != nil {
			return withoutEntry(all, b), l.leaveSegment(b, found, why) // the active segment must not get its name
		}
		l.reportFinding(FoundMisnamed, slog.LevelError, "left a segment in its place that claims the records of another: one of them can't be read",
			"segment", b.name, "other", a.name, "error", errors.Join(a.fileError, b.fileError))
		return withoutEntry(all, b), nil
	}
	for _, side := range []struct{ has, lacks *foundDir }{{a, b}, {b, a}} {
		empty := side.lacks.isFile || errors.Is(side.lacks.fileError, fs.ErrNotExist)
		if w := l.read(side.has); empty && w != nil && w.IsWhole(side.lacks.first, side.lacks.last) {
			l.reportFinding(FoundStray, slog.LevelWarn, "put aside an entry with the name of a segment and without records: another segment has the records",
				"path", filepath.Join(l.dir, side.lacks.name), "segment", side.has.name)
			return withoutEntry(all, side.lacks), l.putAside(filepath.Join(l.dir, side.lacks.name), errInTheWay)
		}
	}
	if wa == nil || wb == nil {
		return leaveB()
	}
	for _, side := range []struct{ has, lacks *foundDir }{{a, b}, {b, a}} {
		in, err := l.isPiece(side.lacks, side.has)
		if err != nil {
			return nil, err
		}
		if in {
			l.reportFinding(FoundSalvage, slog.LevelWarn, "deleted a segment: another has all of its records (as after an interrupted salvage)",
				"segment", side.lacks.name, "of", side.has.name, "records", side.lacks.scan.Count())
			return withoutEntry(all, side.lacks), l.deleteRedundant(side.lacks.name)
		}
	}
	for _, s := range []*foundDir{a, b} {
		if s.scan.Unread != nil && s.validName && s.sealed {
			return withoutEntry(all, s), l.renameUnread(found, s)
		}
	}
	if wa.Unread != nil || wb.Unread != nil {
		return leaveB()
	}
	aside := b
	if wb.Count() > wa.Count() {
		aside = a
	}
	l.reportFinding(FoundMisnamed, slog.LevelError, "put aside a segment: another claims some of its records and has more",
		"segment", aside.name, "records", aside.scan.Count())
	return withoutEntry(all, aside), l.quarantineDir(aside.name)
}

// renameUnread renames a segment that the disk can't read completely to .unread, because an
// interrupted salvage saved the other segment from it. The rest is read again.
func (l *Log) renameUnread(found *foundDirs, s *foundDir) error {
	l.reportFinding(FoundUnreadable, slog.LevelError, "the disk can't read a part of a segment whose salvage was interrupted: that part is read again",
		"segment", s.name, "error", s.scan.Unread)
	first, last, _, _ := parseName(s.name)
	u := &foundDir{name: unreadName(first, last), first: first, last: last, sealed: true, validName: true, run: s.run}
	found.unread = append(found.unread, u)
	return l.disk.RenameDurably(filepath.Join(l.dir, s.name), filepath.Join(l.dir, u.name))
}

// deleteRedundant deletes a segment whose records another segment contains.
func (b *base) deleteRedundant(name string) error {
	dir := filepath.Join(b.dir, name)
	if err := b.markDirGone(dir); err != nil {
		return err
	}
	return b.deleteDir(dir + goneSuffix)
}
