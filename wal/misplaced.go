package wal

// isReplaced reports whether a disk wrote what belongs to another segment, which is not
// there any more, over all that s held: it holds none of the records that its name
// tells, and neither these nor what it holds is another's. For the name to be wrong
// instead, both of its numbers would have to be.
func (l *Log) isReplaced(s *named, all []*named) bool {
	w := l.read(s)
	if w == nil || w.Unread != nil || len(w.Pieces) == 0 {
		return false
	}
	overlaps := func(r SeqRange, first, last uint64) bool { return first <= r.Last && r.First <= last }
	name, content := SeqRange{First: s.first, Last: s.last}, SeqRange{First: w.Pieces[0].First, Last: w.Last()}
	if overlaps(name, content.First, content.Last) {
		return false
	}
	above := false // what is told by no other name was perhaps never there
	for _, o := range all {
		last := o.last
		if last == 0 {
			last = maxSeq
		}
		if o != s && (overlaps(name, o.first, last) || overlaps(name, o.begins, o.begins) || overlaps(content, o.first, last)) {
			return false
		}
		above = above || o.sound && o.first > s.last
	}
	return above
}
