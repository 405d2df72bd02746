package segment

// Halves divides the records of an undamaged segment in two, at the frame that begins
// nearest to the middle of the segment's bytes. ok is false if there is a single frame.
func (s *Scan) Halves() (halves []Piece, ok bool, err error) {
	middle := (s.HeaderEnd + s.FramesEnd) / 2
	distance := func(at int64) int64 { return max(at-middle, middle-at) }
	var cut frame
	err = s.frames(func(_ *scanner, f frame) error {
		if f.entryStart > s.HeaderEnd && (cut.entryStart == 0 || distance(f.entryStart) < distance(cut.entryStart)) {
			cut = f
		}
		return nil
	})
	if err != nil || cut.entryStart == 0 {
		return nil, false, err
	}
	left := s.Pieces[0].extents[0] // an undamaged segment has one extent
	right := left
	left.to, left.last = cut.entryStart, cut.firstSeq-1
	right.entryStart, right.from, right.first = cut.entryStart, cut.from, cut.firstSeq
	for _, e := range []extent{left, right} {
		halves = append(halves, Piece{SeqRange{e.first, e.last}, []extent{e}})
	}
	return halves, true, nil
}
