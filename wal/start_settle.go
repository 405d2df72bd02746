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
)

// renamingSuffix ends the temporary name of a segment that gets its right name, so that two
// segments can swap names.
const renamingSuffix = ".renaming"

// settle finds out which records each segment contains, gives it the matching name, and
// lists the segments in order. Afterwards no record is in two of them: a segment that has
// only records of another is deleted, and one that contradicts another is put aside. gone
// are the first seqs of segments that are being removed. A segment that can't be read keeps
// its name.
//
// A segment is scanned completely only if its name contradicts its first frame, or if the
// next name does not continue it.
func (l *Log) settle(found *names, gone []uint64) error {
	all, kept := found.segments, []*named(nil)
	var err error
	for _, s := range all {
		l.peek(s)
		if s.begins == 0 { // neither its name nor its first frame shows a seq
			if w := l.read(s); w != nil && len(w.Pieces) > 0 {
				s.begins = w.Pieces[0].First
			}
		}
	}
	if all, err = l.withoutStrangers(all); err != nil {
		return err
	}
	for _, s := range all {
		if s.sound && s.sealed && !s.fits {
			l.followExchanged(s, all)
		}
	}
	for _, s := range all {
		l.keepName(s, found, all)
	}
	for _, s := range slices.Clone(all) {
		switch {
		case s.begins == 0:
			l.leaveStray(s.name)
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
		// Of two with the same first seq the larger comes first.
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

// settleFirst settles the first of the segments in all, which are in order. It returns all,
// with that segment first unless it gave way to another.
func (l *Log) settleFirst(found *names, all []*named, gone []uint64) ([]*named, error) {
	s := all[0]
	for {
		next := uint64(maxSeq)
		if len(all) > 1 {
			next = all[1].begins
		}
		limit := next // also limited by the first seq of each .unread or .tail above s
		for _, u := range found.unread {
			if u.first > s.begins {
				limit = min(limit, u.first)
			}
		}
		s.first = s.begins
		tells := s.sound && s.last >= s.begins
		switch {
		case s.replaced:
			return all, nil
		case !s.sealed && next > s.begins: // frames from next on were never acknowledged
			return all, nil
		case s.fits && (limit == s.last+1 || limit > s.last && slices.Contains(gone, s.last+1)):
			return all, nil
		case s.noFirstFrame && s.sealed && tells && limit == s.last+1: // its neighbours confirm the name
			return all, nil
		}
		w := l.read(s)
		end, exact := uint64(0), false
		if w != nil {
			end, exact = w.Last(), w.EndsExactly()
		}
		// Records above a name give way to those of another name: a failed commit leaves
		// such records, and their seqs are used again.
		above := tells && s.last < next && len(all) > 1 && all[1].fits
		overlaps := next == s.begins || exact && next <= end && !above
		if !overlaps && w != nil && tells && next <= s.last { // the name of s claims too much, or all[1] is a piece of s
			if overlaps = w.Unread != nil; !overlaps {
				var err error
				if overlaps, err = l.isPiece(all[1], s); err != nil {
					return nil, err
				}
			}
		}
		if overlaps {
			rest, err := l.resolveOverlap(found, all)
			if err != nil || len(rest) == 0 || rest[0] != s {
				return rest, err
			}
			all = rest
			continue
		}
		switch {
		case (w == nil || w.Unread != nil) && !tells:
			l.leaveStray(s.name)
			return all[1:], nil
		case w == nil:
		case !tells, exact && end > s.last && (limit == end+1 || slices.Contains(gone, end+1)):
			s.last = end // the next name continues there
		case end > s.last && s.last < limit-1: // either the records were never acknowledged or the name is wrong; nothing shows which
			if err := l.quarantineBeyond(s, w); err != nil {
				return nil, err
			}
		}
		s.last = min(s.last, next-1, max(end, limit-1))
		return all, nil
	}
}

// quarantineBeyond copies the frames above the last seq of a segment's name to the
// quarantine. They are not shipped, because other records may have their seqs.
func (l *Log) quarantineBeyond(s *named, w *segment.Scan) error {
	from, err := w.OffsetAbove(s.last)
	if err != nil || from == w.Size {
		return err
	}
	in, end, err := w.Open()
	if err != nil {
		return err
	}
	defer end()
	l.found(FoundMisnamed, slog.LevelWarn, "copied records above a segment's name to the quarantine: they were not acknowledged, or the name is wrong",
		"segment", s.name, "offset", from)
	return l.quarantineBytes(fmt.Sprintf("%s-beyond-%d", s.name, from), s.name, in, segment.ByteRange{From: from, To: w.Size}, errors.New("records above the last seq of the segment's name"))
}

// rename gives each segment its right name, and returns those that have it.
func (l *Log) rename(found *names, kept []*named) (right []*named, err error) {
	var wrong []*named
	for _, s := range kept {
		if s.name == s.right() {
			right = append(right, s)
			continue
		}
		if _, _, ending, _ := parseName(s.name); s.name != nextName && !isBetweenNames(ending) { // otherwise it was reported before
			l.found(FoundMisnamed, slog.LevelError, "renamed a segment: its name did not match its records", "segment", s.name, "to", s.right())
		}
		if first, _, _, _ := parseName(s.name); s.sound && !s.sealed && first > s.first { // the disk may have misplaced the content instead, so the seqs below the name stay in use
			found.above(first - 1)
			if err := l.keepSeqsBelow(first); err != nil && !l.tolerates(err) {
				return nil, err
			}
		}
		renaming := s.right() + renamingSuffix
		if s.name != renaming {
			if err := l.disk.RenameDurably(filepath.Join(l.dir, s.name), filepath.Join(l.dir, renaming)); err != nil {
				if err := l.leaveSegment(s, found, err); err != nil {
					return nil, err
				}
				continue
			}
			s.name = renaming
		}
		wrong = append(wrong, s)
	}
	for _, s := range wrong {
		to := filepath.Join(l.dir, s.right())
		if _, err := l.disk.Stat(to); err == nil { // this start does not list it as a segment
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

// keepSeqsBelow makes a directory with the name of a removed segment. The name keeps the
// seqs below first in use, for this start and later ones, until there is an active segment.
func (l *Log) keepSeqsBelow(first uint64) error {
	name := segment.ActiveName(first) + goneSuffix
	if err := l.disk.MkdirDurably(filepath.Join(l.dir, name)); err != nil {
		return err
	}
	l.gone = append(l.gone, name)
	return nil
}

func (b *base) leaveStray(name string) {
	b.leave(filepath.Join(b.dir, name), errNotPart)
	b.found(FoundStray, slog.LevelWarn, "left in its place what is not part of a log", "path", filepath.Join(b.dir, name))
}
