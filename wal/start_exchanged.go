package wal

// followExchanged gives a segment whose first frame can't be read the seqs of another
// name, if its own name has been exchanged for that one: the records that its name tells
// are those of another segment, as a whole, whose name in turn tells others.
func (l *Log) followExchanged(s *named, all []*named) {
	nameOf := func(s *named) SeqRange { return SeqRange{First: s.first, Last: s.last} }
	is := nameOf(s)
	for range all { // each step is to another name
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

// wholeOf returns a sealed segment that has exactly these records and another name.
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
