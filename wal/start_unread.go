package wal

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// deleteStaleLinks deletes the .unread names that an interrupted salvage gave to the file
// of a sealed segment. That segment is salvaged again.
func (l *Log) deleteStaleLinks(found *names) (err error) {
	found.unread = slices.DeleteFunc(found.unread, func(u *named) bool {
		if _, _, ending, _ := parseName(u.name); err != nil || ending != unreadSuffix {
			return false
		}
		same := slices.ContainsFunc(found.segments, func(s *named) bool { return s.sealed && l.disk.IsSameFile(l.fileOf(u.name), l.fileOf(s.name)) })
		if same {
			err = l.deleteExamined(u.name)
		}
		return same
	})
	return err
}

// readUnread finds out which records of each .unread and .tail are still missing, and sorts
// them by first seq.
func (l *Log) readUnread(found *names) error {
	var left []*named
	for _, u := range found.unread {
		some, err := l.leftOf(u, found.segments)
		if err != nil {
			if err := l.leaveSegment(u, found, err); err != nil {
				return err
			}
			continue
		}
		left = append(left, some...)
	}
	slices.SortStableFunc(left, func(a, b *named) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.name, b.name)) })
	found.unread = slices.CompactFunc(left, func(a, b *named) bool { return a.name == b.name })
	for _, s := range slices.Concat(found.unread, found.removals) {
		if l.peek(s); !s.isPartial() && s.begins <= s.last && !hasSeq(found.segments, s.begins) { // otherwise the disk wrote another segment's first frame here
			s.first = s.begins
		}
	}
	return nil
}

// hasSeq reports whether the name of one of the segments covers seq.
func hasSeq(all []*named, seq uint64) bool {
	return slices.ContainsFunc(all, func(s *named) bool {
		return s.first == seq || s.sealed && s.first <= seq && seq <= s.last
	})
}

// isPartial reports whether the disk could not read a part of the file. Such a file
// contains records of other segments, too, so only the name shows which ones belong to s.
func (s *named) isPartial() bool {
	_, _, ending, _ := parseName(s.name)
	_, unread := cutUnread(ending)
	return unread || ending == lostSuffix
}

// leftOf removes from u the records that an interrupted salvage has saved in other
// segments. It renames u to the first range that is left, and makes a link for each further
// range.
func (l *Log) leftOf(u *named, segments []*named) (left []*named, err error) {
	saved := savedOf(u, segments)
	if len(saved) == 0 {
		return []*named{u}, nil
	}
	l.found(FoundSalvage, slog.LevelWarn, "continued an interrupted salvage", "segment", u.name)
	gaps := segment.Gaps(u.first, u.last, saved)
	if len(gaps) == 0 {
		return nil, l.quarantineDir(u.name)
	}
	if u.plain {
		for _, g := range gaps {
			if err := l.enterMissing(g, LossDamaged); err != nil {
				return nil, err
			}
		}
		return nil, l.quarantineDir(u.name)
	}
	dir := filepath.Join(l.dir, u.name)
	name := unreadName
	if strings.HasSuffix(u.name, tailSuffix) {
		name = tailName
	}
	for _, g := range slices.Backward(gaps) {
		part := &named{name: name(g.First, g.Last), first: g.First, last: g.Last, sealed: true, sound: true}
		to := filepath.Join(l.dir, part.name)
		switch {
		case g != gaps[0]:
			err = l.link(filepath.Join(dir, segment.FileName), to)
		case to == dir:
		case l.disk.IsSameFile(filepath.Join(dir, segment.FileName), filepath.Join(to, segment.FileName)):
			err = l.deleteExamined(u.name)
		default:
			err = l.disk.RenameDurably(dir, to)
		}
		if err != nil {
			return nil, err
		}
		left = append(left, part)
	}
	return left, nil
}

// savedOf lists the ranges of u that sealed segments cover.
func savedOf(u *named, segments []*named) (saved []segment.Piece) {
	for _, s := range segments {
		if s.sealed && s.last >= u.first && s.first <= u.last {
			saved = append(saved, segment.Piece{SeqRange: SeqRange{First: max(s.first, u.first), Last: min(s.last, u.last)}})
		}
	}
	return saved
}

// addUnread lists an .unread or .tail of an earlier run as a segment. Its Records fail,
// which makes the shipper salvage it.
func (l *Log) addUnread(u *named, found *names) error {
	if u.plain {
		return l.loseSegment(filepath.Join(l.dir, u.name), u.first, u.last)
	}
	tail := strings.HasSuffix(u.name, tailSuffix)
	s := &Segment{
		shelf: l.shelf, dir: filepath.Join(l.dir, u.name), first: u.first, last: u.last, sealedAt: time.Now(), reread: true, uncertain: tail,
	}
	if info, err := l.disk.Stat(s.path()); err == nil {
		s.bytes, s.sealedAt = vfs.SizeOf(info), info.ModTime()
	}
	if u.failed != nil && !errors.Is(u.failed, fs.ErrNotExist) {
		return l.leaveSegment(u, found, u.failed)
	}
	l.queue.recovered(s.counted(), pending)
	l.shelf.enter(s)
	l.found(FoundUnreadable, slog.LevelWarn, "reading again what the disk could not read before the restart", "segment", u.name)
	return nil
}

// statSegment returns the size and the modification time of a sealed segment's file. If
// there is no regular file, the error wraps fs.ErrNotExist. A file that the disk can't read
// counts as empty, because reading it fails later.
func (l *Log) statSegment(path string) (size int64, at time.Time, err error) {
	info, err := l.disk.Stat(path)
	if vfs.IsUnreadable(err) && !errors.Is(err, fs.ErrNotExist) {
		return 0, time.Now(), nil
	}
	if errors.Is(err, syscall.ENOTDIR) { // check that a file has really replaced the directory
		dir, errDir := l.disk.Stat(filepath.Dir(path))
		if errDir == nil && !dir.IsDir() {
			err = fs.ErrNotExist
		}
	}
	if err == nil && !info.Mode().IsRegular() { // it can't contain records
		err = fs.ErrNotExist
	}
	if err != nil {
		return 0, at, err
	}
	return vfs.SizeOf(info), info.ModTime(), nil
}
