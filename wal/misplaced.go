package wal

import (
	"fmt"
	"slices"

	"collectord/wal/segment"
)

// trustNameIfMisplaced keeps the seqs of a segment's name if the disk wrote its first
// frame to the wrong place. Otherwise the first frame decides its seqs.
func (l *Log) trustNameIfMisplaced(s *foundDir, found *foundDirs, all []*foundDir) {
	misplaced := false
	switch {
	case !s.validName || s.noFirstFrame:
	case !s.sealed && s.firstFrameSeq != s.first && s.name != nextName:
		misplaced, s.overwritten = l.hasForeignStart(s, all)
	case s.sealed && (s.firstFrameSeq < s.first || s.firstFrameSeq > s.last):
		s.overwritten = l.isFullyOverwritten(s, slices.Concat(all, found.unread, found.removals), found.nextSeq)
		misplaced = s.overwritten || firstFrameIsCopy(s, all) || l.hasRecordsOfName(s)
	}
	if misplaced {
		s.firstFrameSeq, s.noFirstFrame = s.first, true
	}
}

// isFullyOverwritten reports whether the disk wrote records of another segment over all
// records of s. Four conditions prove it: s has none of the records that its name
// gives; no other name gives them; the records of s are also in the other segment, if
// that is still there; and a neighbour or nextSeq proves that the seqs of the name were
// in use. If the name were wrong instead, both of its numbers would have to be. nextSeq
// is above the seqs of the names that end in .gone.
func (l *Log) isFullyOverwritten(s *foundDir, all []*foundDir, nextSeq uint64) bool {
	w := l.read(s)
	if w == nil || w.Unread != nil {
		return false
	}
	overlaps := func(r SeqRange, first, last uint64) bool { return first <= r.Last && r.First <= last }
	name, content := SeqRange{First: s.first, Last: s.last}, SeqRange{First: s.firstFrameSeq, Last: s.firstFrameSeq}
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
		if o != s && (overlaps(name, o.first, last) || overlaps(name, o.firstFrameSeq, o.firstFrameSeq) || overlaps(content, o.first, last) && !l.containsScan(o, w)) {
			return false
		}
		proven = proven || o.validName && o.first > s.last || o.nameFitsFrame && o.last+1 == s.first
	}
	return proven
}

// containsScan reports whether a segment has all records of a scan.
func (l *Log) containsScan(s *foundDir, of *segment.Scan) bool {
	w := l.read(s)
	if w == nil {
		return false
	}
	in, err := w.Contains(of)
	l.mayDoubt(err)
	return in && err == nil
}

// firstFrameIsCopy reports whether the first frame of s is a copy of another segment's,
// which the disk wrote to the wrong place. The name of the segment that follows s
// confirms the name of s.
func firstFrameIsCopy(s *foundDir, all []*foundDir) bool {
	return slices.ContainsFunc(all, func(o *foundDir) bool { return o.nameFitsFrame && o.firstFrameSeq == s.firstFrameSeq }) &&
		slices.ContainsFunc(all, func(o *foundDir) bool { return o.nameFitsFrame && o.first == s.last+1 })
}

// hasRecordsOfName reports whether a segment has records with the seqs of its name that do
// not continue its first frame. If so, the first frame is misplaced.
func (l *Log) hasRecordsOfName(s *foundDir) bool {
	w := l.read(s)
	return w != nil && w.HasOthers(s.firstFrameSeq, SeqRange{First: s.first, Last: s.last})
}

// hasForeignStart reports whether an unsealed segment begins with a frame of another one
// although its own name is right. The name is right if records behind that frame fit
// it, if the other segment is there too, or if the name would have more than one wrong
// digit. entirely reports whether the segment has no other records.
func (l *Log) hasForeignStart(s *foundDir, others []*foundDir) (overwritten, entirely bool) {
	w := l.read(s)
	if w == nil || w.Unread != nil {
		return false, false
	}
	within := SeqRange{First: s.first, Last: maxSeq}
	if s.firstFrameSeq > s.first {
		within.Last = s.firstFrameSeq - 1
	}
	if w.HasOthers(s.firstFrameSeq, within) {
		return true, false
	}
	ownerIsThere := slices.ContainsFunc(others, func(o *foundDir) bool {
		return o != s && o.validName && !o.noFirstFrame && o.first == o.firstFrameSeq && o.firstFrameSeq == s.firstFrameSeq
	})
	if s.firstFrameSeq > s.first { // otherwise it may be a copy that an operator made under a shipped seq
		overwritten = ownerIsThere && !hasSealedAfter(s, others)
	} else {
		overwritten = ownerIsThere || differingDigits(s.first, s.firstFrameSeq) > 1
	}
	return overwritten, overwritten
}

// differingDigits counts the decimal digits in which the names of two seqs differ.
func differingDigits(a, b uint64) (n int) {
	x, y := fmt.Sprintf("%020d", a), fmt.Sprintf("%020d", b)
	for i := range x {
		if x[i] != y[i] {
			n++
		}
	}
	return n
}
