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
func (l *Log) deleteStaleLinks(found *foundDirs) error {
	sealed := slices.DeleteFunc(slices.Clone(found.segments), func(s *foundDir) bool { return !s.sealed })
	for _, u := range slices.Clone(found.unread) {
		if _, _, ending, _ := parseName(u.name); ending != unreadSuffix {
			continue
		}
		same, err := l.sharesFile(u, sealed)
		if same {
			found.unread = withoutEntry(found.unread, u)
			err = l.deleteRedundant(u.name)
		}
		if err != nil && !l.tolerates(err) {
			return err
		}
	}
	return nil
}

// sharesFile reports whether the file of s is a hard link to that of one of the others.
func (l *Log) sharesFile(s *foundDir, others []*foundDir) (same bool, err error) {
	for _, o := range others {
		same, errSame := l.disk.IsSameFile(l.fileOf(s.name), l.fileOf(o.name))
		if same {
			return true, nil
		}
		err = cmp.Or(err, errSame)
	}
	return false, err
}

// readUnread finds out which records of each .unread and .tail are still missing, and sorts
// them by first seq.
func (l *Log) readUnread(found *foundDirs) error {
	var remaining []*foundDir
	for _, u := range found.unread {
		parts, err := l.remainingOf(u, found.segments)
		if err != nil {
			if err := l.leaveSegment(u, found, err); err != nil {
				return err
			}
			continue
		}
		remaining = append(remaining, parts...)
	}
	slices.SortStableFunc(remaining, func(a, b *foundDir) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.name, b.name)) })
	found.unread = slices.CompactFunc(remaining, func(a, b *foundDir) bool { return a.name == b.name })
	for _, s := range slices.Concat(found.unread, found.removals) {
		if l.peek(s); !s.isPartial() && s.firstFrameSeq <= s.last && !hasSeq(found.segments, s.firstFrameSeq) { // otherwise the disk wrote another segment's first frame here
			s.first = s.firstFrameSeq
		}
	}
	return nil
}

// hasSeq reports whether the name of one of the segments covers seq.
func hasSeq(all []*foundDir, seq uint64) bool {
	return slices.ContainsFunc(all, func(s *foundDir) bool {
		return s.first == seq || s.sealed && s.first <= seq && seq <= s.last
	})
}

// isPartial reports whether the disk could not read a part of the file. Such a file
// contains records of other segments, too, so only the name shows which ones belong to s.
func (s *foundDir) isPartial() bool {
	_, _, ending, _ := parseName(s.name)
	_, unread := cutUnread(ending)
	return unread || ending == lostSuffix
}

// remainingOf removes from u the records that an interrupted salvage has saved in other
// segments. It renames u to the first range that is left, and makes a link for each further
// range.
func (l *Log) remainingOf(u *foundDir, segments []*foundDir) (remaining []*foundDir, err error) {
	saved := savedRanges(u, segments)
	if len(saved) == 0 {
		return []*foundDir{u}, nil
	}
	l.reportFinding(FoundSalvage, slog.LevelWarn, "continued an interrupted salvage", "segment", u.name)
	gaps := segment.Gaps(u.first, u.last, saved)
	if len(gaps) == 0 {
		return nil, l.quarantineDir(u.name)
	}
	if u.isFile {
		for _, g := range gaps {
			if err := l.noteMissing(g, LossDamaged); err != nil {
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
		part := &foundDir{name: name(g.First, g.Last), first: g.First, last: g.Last, sealed: true, validName: true}
		to := filepath.Join(l.dir, part.name)
		same, err := l.disk.IsSameFile(l.fileOf(u.name), l.fileOf(part.name))
		switch {
		case err != nil:
		case g != gaps[0]:
			err = l.link(l.fileOf(u.name), to)
		case to == dir:
		case same:
			err = l.deleteRedundant(u.name)
		default:
			err = l.disk.RenameDurably(dir, to)
		}
		if err != nil {
			return nil, err
		}
		remaining = append(remaining, part)
	}
	return remaining, nil
}

// savedRanges lists the ranges of u that sealed segments cover.
func savedRanges(u *foundDir, segments []*foundDir) (saved []segment.Piece) {
	for _, s := range segments {
		if s.sealed && s.last >= u.first && s.first <= u.last {
			saved = append(saved, segment.Piece{SeqRange: SeqRange{First: max(s.first, u.first), Last: min(s.last, u.last)}})
		}
	}
	return saved
}

// addUnread lists an .unread or .tail of an earlier run as a segment. Its Records fail,
// which makes the shipper salvage it.
func (l *Log) addUnread(u *foundDir, found *foundDirs) error {
	if u.isFile {
		return l.noteLostSegment(filepath.Join(l.dir, u.name), u.first, u.last)
	}
	tail := strings.HasSuffix(u.name, tailSuffix)
	s := &Segment{
		shelf: l.shelf, dir: filepath.Join(l.dir, u.name), first: u.first, last: u.last, sealedAt: time.Now(), reread: true, countUncertain: tail,
	}
	if info, err := l.disk.Stat(s.path()); err == nil {
		s.bytes, s.sealedAt = vfs.SizeOf(info), info.ModTime()
	}
	if u.fileError != nil && !errors.Is(u.fileError, fs.ErrNotExist) {
		return l.leaveSegment(u, found, u.fileError)
	}
	l.queue.countRecovered(s.ledgerCount(), pending)
	l.shelf.addFound(s)
	l.reportFinding(FoundUnreadable, slog.LevelWarn, "reading again what the disk could not read before the restart", "segment", u.name)
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
