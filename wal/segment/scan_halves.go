package segment

// Halves divides the records of an undamaged segment in two, at the frame that begins
// nearest to the middle of the segment's bytes. ok is false if there is a single frame.
func (s *Scan) Halves() (halves []Piece, ok bool, err error) {
	middle := (s.Begin + s.End) / 2
	off := func(at int64) int64 { return max(at-middle, middle-at) }
	var cut frame
	err = s.frames(func(_ *scanner, f frame) error {
		if f.start > s.Begin && (cut.start == 0 || off(f.start) < off(cut.start)) {
			cut = f
		}
		return nil
	})
	if err != nil || cut.start == 0 {
		return nil, false, err
	}
	left := s.Pieces[0].extents[0] // an undamaged segment has one extent
	right := left
	left.to, left.last = cut.start, cut.firstSeq-1
	right.start, right.from, right.first = cut.start, cut.from, cut.firstSeq
	for _, e := range []extent{left, right} {
		halves = append(halves, Piece{SeqRange{e.first, e.last}, []extent{e}})
	}
	return halves, true, nil
}
