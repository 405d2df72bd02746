package wal

import (
	"fmt"
	"slices"

	"collectord/wal/segment"
)

// keepName keeps the seqs of a segment's name if the disk wrote its first frame to the
// wrong place. Otherwise the first frame decides its seqs.
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

// isReplaced reports whether the disk wrote records of another segment over all records
// of s. Four conditions prove it: s has none of the records that its name gives; no
// other name gives them; the records of s are also in the other segment, if that is
// still there; and a neighbour or nextSeq proves that the seqs of the name were in use.
// If the name were wrong instead, both of its numbers would have to be. nextSeq is
// above the seqs of the names that end in .gone.
func (l *Log) isReplaced(s *named, all []*named, nextSeq uint64) bool {
	w := l.read(s)
	if w == nil || w.Unread != nil {
		return false
	}
	overlaps := func(r SeqRange, first, last uint64) bool { return first <= r.Last && r.First <= last }
	name, content := SeqRange{First: s.first, Last: s.last}, SeqRange{First: s.begins, Last: s.begins}
	if len(w.Pieces) > 0 { // otherwise only the first frame's header checks out
		content = SeqRange{First: w.Pieces[0].First, Last: w.Last()}
	}
	if overlaps(name, content.First, content.Last) {
		return false
	}
	proven := nextSeq > s.last // seqs that no other name confirms were perhaps never used
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

// isCopied reports whether the first frame of s is a copy of another segment's, which
// the disk wrote to the wrong place. The name of the segment that follows s confirms
// the name of s.
func isCopied(s *named, all []*named) bool {
	return slices.ContainsFunc(all, func(o *named) bool { return o.fits && o.begins == s.begins }) &&
		slices.ContainsFunc(all, func(o *named) bool { return o.fits && o.first == s.last+1 })
}

// containsNamed reports whether a segment has records with the seqs of its name that do
// not continue its first frame. If so, the first frame is misplaced.
func (l *Log) containsNamed(s *named) bool {
	w := l.read(s)
	return w != nil && w.HasOthers(s.begins, SeqRange{First: s.first, Last: s.last})
}

// isOverwritten reports whether an unsealed segment begins with a frame of another one
// although its own name is right. The name is right if records behind that frame fit
// it, if the other segment is there too, or if the name would have more than one wrong
// digit. all reports whether the segment has no other records.
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
	if s.begins > s.first { // otherwise it may be a copy that an operator made under a shipped seq
		is = owner && !isSealedBehind(s, others)
	} else {
		is = owner || wrongDigits(s.first, s.begins) > 1
	}
	return is, is
}

// wrongDigits counts the decimal digits in which the names of two seqs differ.
func wrongDigits(a, b uint64) (n int) {
	x, y := fmt.Sprintf("%020d", a), fmt.Sprintf("%020d", b)
	for i := range x {
		if x[i] != y[i] {
			n++
		}
	}
	return n
}
