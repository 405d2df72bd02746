package wal

import (
	"fmt"
	"slices"

	"collectord/wal/segment"
)

// keepName has the name of a segment tell its seqs instead of its first frame, if a disk
// wrote that to the wrong place.
func (l *Log) keepName(s *named, found *names, all []*named) {
	misplaced := false
	switch {
	case !s.sound || s.noFirstFrame:
	case !s.sealed && s.begins != s.first && s.name != nextName:
		misplaced, s.replaced = l.isOverwritten(s, all)
	case s.sealed && (s.begins < s.first || s.begins > s.last):
		s.replaced = l.isReplaced(s, slices.Concat(all, found.unread, found.removals), found.nextSeq)
		misplaced = s.replaced || isCopied(s, all) || l.containsNamed(s)
	}
	if misplaced {
		s.begins, s.noFirstFrame = s.first, true
	}
}

// isReplaced reports whether a disk wrote what belongs to another segment over all that s
// held: it holds none of the records that its name tells, these are no other's, and what
// it holds is in the other, if that is still there. For the name to be wrong instead, both
// of its numbers would have to be. nextSeq is above the seqs of the names that end in .gone.
func (l *Log) isReplaced(s *named, all []*named, nextSeq uint64) bool {
	w := l.read(s)
	if w == nil || w.Unread != nil {
		return false
	}
	overlaps := func(r SeqRange, first, last uint64) bool { return first <= r.Last && r.First <= last }
	name, content := SeqRange{First: s.first, Last: s.last}, SeqRange{First: s.begins, Last: s.begins}
	if len(w.Pieces) > 0 { // otherwise the first frame's header is all that checks out
		content = SeqRange{First: w.Pieces[0].First, Last: w.Last()}
	}
	if overlaps(name, content.First, content.Last) {
		return false
	}
	proven := nextSeq > s.last // what is told by no other name was perhaps never there
	for _, o := range all {
		last := o.last
		if last == 0 {
			last = maxSeq
		}
		if o != s && (overlaps(name, o.first, last) || overlaps(name, o.begins, o.begins) || overlaps(content, o.first, last) && !l.holds(o, w)) {
			return false
		}
		proven = proven || o.sound && o.first > s.last || o.fits && o.last+1 == s.first
	}
	return proven
}

// holds reports whether a segment has all records of a scan.
func (l *Log) holds(s *named, of *segment.Scan) bool {
	w := l.read(s)
	if w == nil {
		return false
	}
	in, err := w.Contains(of)
	return in && err == nil
}

// isCopied reports whether the first frame of s is a copy of another segment's, which a
// disk wrote to the wrong place: the name that continues s confirms its own.
func isCopied(s *named, all []*named) bool {
	return slices.ContainsFunc(all, func(o *named) bool { return o.fits && o.begins == s.begins }) &&
		slices.ContainsFunc(all, func(o *named) bool { return o.fits && o.first == s.last+1 })
}

// containsNamed reports whether a segment holds records of the seqs in its name that do
// not continue its first frame, which is misplaced then.
func (l *Log) containsNamed(s *named) bool {
	w := l.read(s)
	return w != nil && w.HasOthers(s.begins, SeqRange{First: s.first, Last: s.last})
}

// isOverwritten reports whether an unsealed segment begins with what belongs to another
// one, so that its name is right all the same: behind that are records that fit the name,
// or the other is there, or the name would have more than one wrong digit. all reports
// whether that is all it holds.
func (l *Log) isOverwritten(s *named, others []*named) (is, all bool) {
	w := l.read(s)
	if w == nil || w.Unread != nil {
		return false, false
	}
	within := SeqRange{First: s.first, Last: maxSeq}
	if s.begins > s.first {
		within.Last = s.begins - 1
	}
	if w.HasOthers(s.begins, within) {
		return true, false
	}
	owner := slices.ContainsFunc(others, func(o *named) bool {
		return o != s && o.sound && !o.noFirstFrame && o.first == o.begins && o.begins == s.begins
	})
	if s.begins > s.first { // otherwise it may be a copy that somebody made, under a seq that was shipped
		is = owner && !isSealedBehind(s, others)
	} else {
		is = owner || wrongDigits(s.first, s.begins) > 1
	}
	return is, is
}

// wrongDigits counts the digits in which the names of two seqs differ.
func wrongDigits(a, b uint64) (n int) {
	x, y := fmt.Sprintf("%020d", a), fmt.Sprintf("%020d", b)
	for i := range x {
		if x[i] != y[i] {
			n++
		}
	}
	return n
}
