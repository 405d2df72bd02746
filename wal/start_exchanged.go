package wal

// followExchanged corrects the seqs of a segment whose name was exchanged with that of
// another. It looks for the segment that has exactly the records of this name, and for the
// one that has the records of that segment's name, until none is found. The last name is
// right, unless the segment's own first frame contradicts it.
func (l *Log) followExchanged(s *named, all []*named) {
	nameOf := func(s *named) SeqRange { return SeqRange{First: s.first, Last: s.last} }
	is := nameOf(s)
	for range all { // a chain of names is at most this long
		holder := l.wholeOf(is, all)
		if holder == nil || holder == s {
			break
		}
		is = nameOf(holder)
	}
	if is != nameOf(s) && (s.noFirstFrame || s.begins == is.First) {
		s.first, s.last, s.begins = is.First, is.Last, is.First
	}
}

// wholeOf returns a sealed segment that contains exactly the records in r under a different
// name, or nil.
func (l *Log) wholeOf(r SeqRange, all []*named) *named {
	for _, s := range all {
		if !s.sound || !s.sealed || s.noFirstFrame || s.begins != r.First || s.first == r.First && s.last == r.Last {
			continue
		}
		if w := l.read(s); w != nil && w.Unread == nil && w.IsWhole(r.First, r.Last) {
			return s
		}
	}
	return nil
}
