package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// movingSuffix ends the name of a segment that is given the name its records
// tell, so that two can exchange theirs.
const movingSuffix = ".moving"

// named is a segment directory as its name tells it. The name is not believed
// where its first frame or its neighbours contradict: a wrong digit would hide
// records, or make them look like those of another segment.
type named struct {
	name        string
	first, last uint64 // last is 0 if it is not sealed
	begins      uint64 // seq of the first frame if that can be read, else first
	sealed      bool
	sound       bool          // the name tells a range
	fits        bool          // it does, and the first frame is where it says
	link        bool          // a symbolic link, which is not followed
	silent      bool          // its first frame tells nothing: it is damaged, or the disk does not give it
	run         uint64        // of the header, if that can be read
	scan        *segment.Scan // what its file holds, once it was read
	failed      error         // why its file could not be read
}

func (b *base) fileOf(name string) string { return filepath.Join(b.dir, name, segment.FileName) }

// look reads the beginning of a segment.
func (l *Log) look(s *named) {
	s.begins = s.first
	if s.link {
		return
	}
	start, err := segment.Peek(l.disk, l.fileOf(s.name))
	if err != nil {
		s.failed = l.whyClosed(s, err)
	}
	s.run, s.silent = start.Run, start.FirstSeq == 0
	if !s.silent {
		s.begins = start.FirstSeq
		s.fits = s.sound && s.sealed && s.begins == s.first
	}
}

// whyClosed returns why the file of a segment can't be opened, if somebody has to
// see to that: a link, or a file of another user. The place of a file where no
// bytes can be is that of a file that is missing.
func (l *Log) whyClosed(s *named, err error) error {
	info, errStat := l.disk.Stat(l.fileOf(s.name))
	switch {
	case errors.Is(err, vfs.ErrNotRegular) && errStat == nil && !vfs.IsLink(info), errors.Is(err, fs.ErrNotExist):
		return fs.ErrNotExist
	case vfs.IsUnreadable(err):
		return nil
	}
	return err
}

// read scans the whole file, once.
func (l *Log) read(s *named) *segment.Scan {
	if s.scan == nil && s.failed == nil {
		if s.link {
			s.failed = vfs.ErrNotRegular
		} else if s.scan, s.failed = l.scanAll(s.name); s.failed == nil && s.scan.Missing {
			s.scan, s.failed = nil, fs.ErrNotExist
		}
	}
	return s.scan
}

// settle finds out which records each segment really holds, gives it the name
// that says so, and returns the segments in order. No two have a record in
// common: one that holds nothing but records of another is deleted, and one whose
// name is taken by others goes to the quarantine. gone are the first seqs of
// names that are being removed. What the disk did not give keeps its name.
//
// A segment is read only if its name does not fit its first frame, or is not
// continued by the next name.
func (l *Log) settle(found *names, gone []uint64) error {
	all, kept := found.segments, []*named(nil)
	var err error
	for _, s := range all {
		l.look(s)
		if s.begins == 0 { // neither the name nor the first frame tells
			if w := l.read(s); w != nil && len(w.Pieces) > 0 {
				s.begins = w.Pieces[0].First
			}
		}
	}
	all = l.dropMoved(all, slices.Concat(found.unread, found.leaving))
	for _, s := range all {
		if s.sound && s.sealed && !s.silent && (s.begins < s.first || s.begins > s.last) && (isCopied(s, all) || l.holdsNamed(s)) {
			s.begins, s.silent = s.first, true
		}
	}
	for _, s := range slices.Clone(all) {
		switch {
		case s.begins == 0:
			l.stray(s.name)
		case s.failed != nil && !errors.Is(s.failed, fs.ErrNotExist):
			if err := l.leaveSegment(s, found, s.failed); err != nil {
				return err
			}
		default:
			continue
		}
		all = withoutNamed(all, s)
	}
	slices.SortStableFunc(all, func(a, b *named) int {
		fits := func(s *named) int {
			if s.fits {
				return 0
			}
			return 1
		}
		// The larger of two that begin alike comes first.
		return cmp.Or(cmp.Compare(a.begins, b.begins), cmp.Compare(fits(a), fits(b)), cmp.Compare(b.last, a.last), cmp.Compare(a.name, b.name))
	})
	for len(all) > 0 {
		s, before := all[0], all
		if all, err = l.settleFirst(found, all, gone); err != nil {
			if err := l.leaveSegment(s, found, err); err != nil {
				return err
			}
			all = withoutNamed(before, s)
			continue
		}
		if len(all) > 0 && all[0] == s {
			kept = append(kept, s)
			all = all[1:]
		}
	}
	found.segments, err = l.rename(found, kept)
	return err
}

// dropMoved deletes the empty directory of a segment whose file was moved to another
// of its names, or was about to be: see vfs.Disk.Rename.
func (l *Log) dropMoved(all, others []*named) (left []*named) {
	for _, name := range l.gone {
		first, last, _, _ := parseName(name)
		others = append(others, &named{name: name, first: first, last: last})
	}
	empty := func(s *named) bool { return errors.Is(s.failed, fs.ErrNotExist) }
	for _, s := range all {
		moved := empty(s) && slices.ContainsFunc(slices.Concat(all, others), func(o *named) bool {
			return o != s && o.first == s.first && (o.last == s.last || o.last == 0 || s.last == 0) && !empty(o)
		})
		if !moved || l.disk.RemoveDir(filepath.Join(l.dir, s.name)) != nil { // also if there is something in it
			left = append(left, s)
		}
	}
	return left
}

// isCopied reports whether the first frame of a segment is that of another one, which
// a disk wrote to the wrong place: the name that goes on behind it confirms its own.
func isCopied(s *named, all []*named) bool {
	return slices.ContainsFunc(all, func(o *named) bool { return o.fits && o.begins == s.begins }) &&
		slices.ContainsFunc(all, func(o *named) bool { return o.fits && o.first == s.last+1 })
}

// holdsNamed reports whether a segment holds records that its name tells, and that do
// not go on from its first frame: that one is misplaced.
func (l *Log) holdsNamed(s *named) bool {
	w := l.read(s)
	return w != nil && w.HasOthers(s.begins, SeqRange{First: s.first, Last: s.last})
}

// settleFirst settles the first of some segments in order. It is the first of
// those returned, unless it made way for another.
func (l *Log) settleFirst(found *names, all []*named, gone []uint64) ([]*named, error) {
	s := all[0]
	for {
		next := uint64(maxSeq)
		if len(all) > 1 {
			next = all[1].begins
		}
		limit := next // also of what the disk did not give, unless it is in this file
		for _, u := range found.unread {
			if u.first > s.begins {
				limit = min(limit, u.first)
			}
		}
		s.first = s.begins
		tells := s.sound && s.last >= s.begins
		switch {
		case !s.sealed && next > s.begins: // frames from next on were not acknowledged
			return all, nil
		case s.fits && (limit == s.last+1 || limit > s.last && slices.Contains(gone, s.last+1)):
			return all, nil
		case s.silent && s.sealed && tells && limit == s.last+1: // its neighbours confirm the name
			return all, nil
		}
		w := l.read(s)
		end, exact := uint64(0), false
		if w != nil {
			end, exact = w.Last(), w.EndsExactly()
		}
		// Records above a name outweigh none that another name tells: a commit that
		// failed leaves them, and their seqs are given out again.
		above := tells && s.last < next && len(all) > 1 && all[1].fits
		overlaps := next == s.begins || exact && next <= end && !above
		if !overlaps && w != nil && tells && next <= s.last { // a piece of it, or beyond what its name should tell
			if overlaps = w.Unread != nil; !overlaps {
				var err error
				if overlaps, err = l.isPiece(all[1], s); err != nil {
					return nil, err
				}
			}
		}
		if overlaps {
			rest, err := l.part(found, all)
			if err != nil || len(rest) == 0 || rest[0] != s {
				return rest, err
			}
			all = rest
			continue
		}
		switch {
		case (w == nil || w.Unread != nil) && !tells:
			l.stray(s.name)
			return all[1:], nil
		case w == nil:
		case !tells, exact && end > s.last && (limit == end+1 || slices.Contains(gone, end+1)):
			s.last = end // the next name goes on there
		case end > s.last && s.last < limit-1: // unacknowledged, or hidden by a wrong name: nobody can tell
			if err := l.keepBeyond(s, w); err != nil {
				return nil, err
			}
		}
		s.last = min(s.last, next-1, max(end, limit-1))
		return all, nil
	}
}

// isPiece reports whether p holds nothing but records that s holds.
func (l *Log) isPiece(p, s *named) (bool, error) {
	w := l.read(p)
	if w == nil || w.Unread != nil || len(w.Pieces) == 0 {
		return false, nil //nolint:nilerr // what can't be read is in no other segment for all we know
	}
	return s.scan.Holds(w)
}

// part ends that the first two of some segments claim the same records.
func (l *Log) part(found *names, all []*named) ([]*named, error) {
	a, b := all[0], all[1]
	wa, wb := l.read(a), l.read(b)
	leaveB := func() ([]*named, error) {
		// What can't be read now may be readable after the next start.
		l.found(FoundMisnamed, slog.LevelError, "left alone a segment that claims the records of another: one of them can't be read",
			"segment", b.name, "other", a.name, "error", errors.Join(a.failed, b.failed))
		return slices.Delete(all, 1, 2), nil
	}
	if wa == nil || wb == nil {
		return leaveB()
	}
	for _, side := range []struct{ has, lacks *named }{{a, b}, {b, a}} {
		// What is damaged, or can't be read, was not found elsewhere.
		in, err := l.isPiece(side.lacks, side.has)
		if err != nil {
			return nil, err
		}
		if in {
			l.found(FoundSalvage, slog.LevelWarn, "deleted a segment that holds nothing but records of another, as an interrupted salvage leaves it",
				"segment", side.lacks.name, "of", side.has.name, "records", side.lacks.scan.Count())
			return withoutNamed(all, side.lacks), l.deleteExamined(side.lacks.name)
		}
	}
	for _, s := range []*named{a, b} {
		if s.scan.Unread != nil && s.sound && s.sealed {
			return withoutNamed(all, s), l.yieldUnread(found, s)
		}
	}
	if wa.Unread != nil || wb.Unread != nil {
		return leaveB()
	}
	aside := b
	if wb.Count() > wa.Count() {
		aside = a
	}
	l.found(FoundMisnamed, slog.LevelError, "moved a segment to the quarantine: another claims some of its records, and holds more",
		"segment", aside.name, "records", aside.scan.Count())
	return withoutNamed(all, aside), l.quarantineDir(aside.name)
}

// yieldUnread makes way for a segment that has records which the disk does not
// give of s: it was saved by a salvage that was interrupted. The rest of s is read
// again.
func (l *Log) yieldUnread(found *names, s *named) error {
	l.found(FoundUnreadable, slog.LevelError, "the disk does not give a part of a segment whose salvage was interrupted: what is missing is read again",
		"segment", s.name, "error", s.scan.Unread)
	first, last, _, _ := parseName(s.name)
	u := &named{name: unreadName(first, last), first: first, last: last, sealed: true, sound: true, run: s.run}
	found.unread = append(found.unread, u)
	return l.disk.RenameDurably(filepath.Join(l.dir, s.name), filepath.Join(l.dir, u.name))
}

func withoutNamed(all []*named, one *named) []*named {
	return slices.DeleteFunc(slices.Clone(all), func(s *named) bool { return s == one })
}

// deleteExamined deletes a segment whose records were found elsewhere.
func (b *base) deleteExamined(name string) error {
	dir := filepath.Join(b.dir, name)
	if err := b.nameGone(dir); err != nil {
		return err
	}
	return b.removeDir(dir + goneSuffix)
}

// keepBeyond copies frames above the last seq that a segment's name tells to the
// quarantine. Nothing ships them: their seqs may have been given out again.
func (l *Log) keepBeyond(s *named, w *segment.Scan) error {
	from, err := w.OffsetAbove(s.last)
	if err != nil || from == w.Size {
		return err
	}
	in, end, err := w.Open()
	if err != nil {
		return err
	}
	defer end()
	l.found(FoundMisnamed, slog.LevelWarn, "copied records to the quarantine that are in a segment's file and not in its name: they were not acknowledged, or the name is wrong",
		"segment", s.name, "offset", from)
	return l.quarantineBytes(fmt.Sprintf("%s-beyond-%d", s.name, from), s.name, in, segment.ByteRange{From: from, To: w.Size}, errors.New("records above the last seq of the segment's name"))
}

// rename gives each segment the name that its records tell, and returns those
// that have it.
func (l *Log) rename(found *names, kept []*named) (right []*named, err error) {
	var wrong []*named
	for _, s := range kept {
		if s.name == s.right() {
			right = append(right, s)
			continue
		}
		if s.name != nextName {
			l.found(FoundMisnamed, slog.LevelError, "the name of a segment does not fit its records: renamed it", "segment", s.name, "to", s.right())
		}
		moving := s.right() + movingSuffix
		if s.name != moving {
			if err := l.disk.RenameDurably(filepath.Join(l.dir, s.name), filepath.Join(l.dir, moving)); err != nil {
				if err := l.leaveSegment(s, found, err); err != nil {
					return nil, err
				}
				continue
			}
			s.name = moving
		}
		wrong = append(wrong, s)
	}
	for _, s := range wrong {
		to := filepath.Join(l.dir, s.right())
		if _, err := l.disk.Stat(to); err == nil { // nothing that is part of the log
			if err := l.putAside(to, errInTheWay); err != nil {
				return nil, err
			}
		}
		if err := l.disk.RenameDurably(filepath.Join(l.dir, s.name), to); err != nil {
			if err := l.leaveSegment(s, found, err); err != nil {
				return nil, err
			}
			continue
		}
		s.name = s.right()
		right = append(right, s)
	}
	slices.SortStableFunc(right, func(a, b *named) int { return cmp.Compare(a.first, b.first) })
	return right, nil
}

// right is the name that a segment should have.
func (s *named) right() string {
	if !s.sealed {
		return segment.ActiveName(s.first)
	}
	return segment.SealedName(s.first, s.last)
}

func (b *base) stray(name string) {
	b.leave(filepath.Join(b.dir, name), errors.New("not part of a log"))
	b.found(FoundStray, slog.LevelWarn, "left alone what is not part of a log", "path", filepath.Join(b.dir, name))
}
