package wal

// correctExchangedName corrects the seqs of a segment whose name was exchanged with that of
// another. It looks for the segment that has exactly the records of this name, and for the
// one that has the records of that segment's name, until none is found. The last name is
// right, unless the segment's own first frame contradicts it.
func (l *Log) correctExchangedName(s *foundDir, all []*foundDir) {
	nameOf := func(s *foundDir) SeqRange { return SeqRange{First: s.first, Last: s.last} }
	actual := nameOf(s)
	for range all { // a chain of names is at most this long
		holder := l.findExact(actual, all)
		if holder == nil || holder == s {
			break
		}
		actual = nameOf(holder)
	}
	if actual != nameOf(s) && (s.noFirstFrame || s.firstFrameSeq == actual.First) {
		s.first, s.last, s.firstFrameSeq = actual.First, actual.Last, actual.First
	}
}

// findExact returns a sealed segment that contains exactly the records in r under a
// different name, or nil.
func (l *Log) findExact(r SeqRange, all []*foundDir) *foundDir {
	for _, s := range all {
		if !s.validName || !s.sealed || s.noFirstFrame || s.firstFrameSeq != r.First || s.first == r.First && s.last == r.Last {
			continue
		}
		if w := l.read(s); w != nil && w.Unread == nil && w.IsWhole(r.First, r.Last) {
			return s
		}
	}
	return nil
}
