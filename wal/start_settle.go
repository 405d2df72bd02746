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
// lists the segments in order. Afterwards no record is in two of them: a segment that
// has only records of another is deleted, and one that contradicts another is put
// aside. goneStarts are the first seqs of segments that are being removed. A segment
// that can't be read keeps its name.
//
// A segment is scanned completely only if its name contradicts its first frame, or if the
// next name does not continue it.
func (l *Log) settle(found *foundDirs, goneStarts []uint64) error {
	all, settled := found.segments, []*foundDir(nil)
	var err error
	for _, s := range all {
		l.peek(s)
		if s.firstFrameSeq == 0 { // neither its name nor its first frame shows a seq
			if w := l.read(s); w != nil && len(w.Pieces) > 0 {
				s.firstFrameSeq = w.Pieces[0].First
			}
		}
	}
	if all, err = l.putStrayDirsAside(all); err != nil {
		return err
	}
	for _, s := range all {
		if s.validName && s.sealed && !s.nameFitsFrame {
			l.correctExchangedName(s, all)
		}
	}
	for _, s := range all {
		l.trustNameIfMisplaced(s, found, all)
	}
	if l.doubt != nil {
		return l.doubt
	}
	for _, s := range slices.Clone(all) {
		switch {
		case s.firstFrameSeq == 0:
			l.leaveStray(s.name)
		case s.fileError != nil && !errors.Is(s.fileError, fs.ErrNotExist):
			if err := l.leaveSegment(s, found, s.fileError); err != nil {
				return err
			}
		default:
			continue
		}
		all = withoutEntry(all, s)
	}
	slices.SortStableFunc(all, func(a, b *foundDir) int {
		misfit := func(s *foundDir) int {
			if s.nameFitsFrame {
				return 0
			}
			return 1
		}
		// Of two segments with the same first seq, the larger one comes first.
		return cmp.Or(cmp.Compare(a.firstFrameSeq, b.firstFrameSeq), cmp.Compare(misfit(a), misfit(b)), cmp.Compare(b.last, a.last), cmp.Compare(a.name, b.name))
	})
	for len(all) > 0 {
		s, before := all[0], all
		if all, err = l.settleFirst(found, all, goneStarts); err != nil {
			if err := l.leaveSegment(s, found, err); err != nil {
				return err
			}
			all = withoutEntry(before, s)
			continue
		}
		if len(all) > 0 && all[0] == s {
			settled = append(settled, s)
			all = all[1:]
		}
	}
	found.segments, err = l.rename(found, settled)
	return err
}

// settleFirst settles the first of the segments in all, which are in order. It returns all,
// with that segment first unless it gave way to another.
func (l *Log) settleFirst(found *foundDirs, all []*foundDir, goneStarts []uint64) ([]*foundDir, error) {
	s := all[0]
	for {
		next := uint64(maxSeq)
		if len(all) > 1 {
			next = all[1].firstFrameSeq
		}
		limit := next // also limited by the first seq of each .unread or .tail above s
		for _, u := range found.unread {
			if u.first > s.firstFrameSeq {
				limit = min(limit, u.first)
			}
		}
		s.first = s.firstFrameSeq
		nameGivesRange := s.validName && s.last >= s.firstFrameSeq
		switch {
		case s.overwritten:
			return all, nil
		case !s.sealed && next > s.firstFrameSeq: // frames from next on were never acknowledged
			return all, nil
		case s.nameFitsFrame && (limit == s.last+1 || limit > s.last && slices.Contains(goneStarts, s.last+1)):
			return all, nil
		case s.noFirstFrame && s.sealed && nameGivesRange && limit == s.last+1: // its neighbours confirm the name
			return all, nil
		}
		w, err := l.readToDecide(s)
		if err != nil {
			return nil, err
		}
		end, exact := uint64(0), false
		if w != nil {
			end, exact = w.Last(), w.EndsExactly()
		}
		// Records above a name give way to those of another name: a failed commit leaves
		// such records, and their seqs are used again.
		nextNameWins := nameGivesRange && s.last < next && len(all) > 1 && all[1].nameFitsFrame
		overlaps := next == s.firstFrameSeq || exact && next <= end && !nextNameWins
		if !overlaps && w != nil && nameGivesRange && next <= s.last { // the name of s claims too much, or all[1] is a piece of s
			if overlaps = w.Unread != nil; !overlaps {
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
		case (w == nil || w.Unread != nil) && !nameGivesRange:
			l.leaveStray(s.name)
			return all[1:], nil
		case w == nil:
		case !nameGivesRange, exact && end > s.last && (limit == end+1 || slices.Contains(goneStarts, end+1)):
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
func (l *Log) quarantineBeyond(s *foundDir, w *segment.Scan) error {
	from, err := w.OffsetAbove(s.last)
	if err != nil || from == w.Size {
		return err
	}
	in, end, err := w.Open()
	if err != nil {
		return err
	}
	defer end()
	l.reportFinding(FoundMisnamed, slog.LevelWarn, "copied records above a segment's name to the quarantine: they were not acknowledged, or the name is wrong",
		"segment", s.name, "offset", from)
	return l.quarantineBytes(fmt.Sprintf("%s-beyond-%d", s.name, from), s.name, in, segment.ByteRange{From: from, To: w.Size}, errors.New("records above the last seq of the segment's name"))
}

// rename gives each segment its right name, and returns those that have it.
func (l *Log) rename(found *foundDirs, settled []*foundDir) (correct []*foundDir, err error) {
	var misnamed []*foundDir
	for _, s := range settled {
		if s.name == s.rightName() {
			correct = append(correct, s)
			continue
		}
		if _, _, ending, _ := parseName(s.name); s.name != nextName && !isBetweenNames(ending) { // otherwise it was reported before
			l.reportFinding(FoundMisnamed, slog.LevelError, "renamed a segment: its name did not match its records", "segment", s.name, "to", s.rightName())
		}
		if first, _, _, _ := parseName(s.name); s.validName && !s.sealed && first > s.first { // the disk may have misplaced the content instead, so the seqs below the name stay in use
			found.raiseNextSeq(first - 1)
			if err := l.keepSeqsBelow(first); err != nil && !l.tolerates(err) {
				return nil, err
			}
		}
		renaming := s.rightName() + renamingSuffix
		if s.name != renaming {
			if err := l.disk.RenameDurably(filepath.Join(l.dir, s.name), filepath.Join(l.dir, renaming)); err != nil {
				if err := l.leaveSegment(s, found, err); err != nil {
					return nil, err
				}
				continue
			}
			s.name = renaming
		}
		misnamed = append(misnamed, s)
	}
	for _, s := range misnamed {
		to := filepath.Join(l.dir, s.rightName())
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
		s.name = s.rightName()
		correct = append(correct, s)
	}
	slices.SortStableFunc(correct, func(a, b *foundDir) int { return cmp.Compare(a.first, b.first) })
	return correct, nil
}

// keepSeqsBelow makes a directory with the name of a removed segment. The name keeps the
// seqs below first in use, for this start and later ones, until there is an active segment.
func (l *Log) keepSeqsBelow(first uint64) error {
	name := segment.ActiveName(first) + goneSuffix
	l.goneNames = append(l.goneNames, name) // also after an error, because the directory may exist
	return l.disk.MkdirDurably(filepath.Join(l.dir, name))
}

func (b *base) leaveStray(name string) {
	b.listLeft(filepath.Join(b.dir, name), errNotPart)
	b.reportFinding(FoundStray, slog.LevelWarn, "left an entry in its place: it is not part of a log", "path", filepath.Join(b.dir, name))
}
