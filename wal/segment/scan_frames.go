package segment

import (
	"io"
)

// reopen opens the file again, with the size that it had.
func (s *Scan) reopen() (*scanner, error) {
	in, err := open(s.disk, s.path)
	if err != nil {
		return nil, err
	}
	in.in.size = s.Size
	return in, nil
}

// Open opens the file to read its bytes. Pages that the disk can't read read as
// zeros. The caller calls end.
func (s *Scan) Open() (in io.ReaderAt, end func(), err error) {
	r, err := s.reopen()
	if err != nil {
		return nil, nil, err
	}
	return r.in, r.close, nil
}

// eachFrame calls each for the frames of an extent. It verifies only their headers
// again.
func (s *scanner) eachFrame(e extent, each func(frame) error) error {
	for start, from := e.start, e.from; from < e.to; {
		head, err := s.bytes(from, frameHeaderSize)
		if err != nil {
			return err
		}
		if len(head) < frameHeaderSize {
			return io.ErrUnexpectedEOF
		}
		h, reason := decodeFrameHeader(head)
		if reason != nil {
			return &DamageError{Path: s.path, Offset: from, Reason: reason} // it checked out a moment ago
		}
		f := frame{frameHeader: h, start: start, from: from, to: from + frameHeaderSize + int64(h.payloadLen)}
		if f.to > e.to {
			return io.ErrUnexpectedEOF
		}
		if err := each(f); err != nil {
			return err
		}
		if f.to == e.to {
			return nil
		}
		_, took, err := s.length(f.to)
		if err != nil {
			return err
		}
		start, from = f.to, f.to+int64(max(took, 1))
	}
	return nil
}

// frames calls each for all frames that check out, by seq.
func (s *Scan) frames(each func(in *scanner, f frame) error) error {
	in, err := s.reopen()
	if err != nil {
		return err
	}
	defer in.close()
	for _, p := range s.Pieces {
		for _, e := range p.extents {
			if err := in.eachFrame(e, func(f frame) error { return each(in, f) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// Records calls each for every record that checks out, by seq, and returns its first
// error. The record is valid until the next. If a frame does not check out any more,
// Records continues with the next one and returns a *DamageError in the end.
func (s *Scan) Records(each func(*Record) error) error {
	var damage error
	err := s.frames(func(in *scanner, f frame) error {
		_, reason, err := in.frameAt(f.from, nil) // the disk may return other bytes now
		if err == nil && reason == nil {
			reason, err = in.records(f, each)
		}
		if err == nil && reason != nil && damage == nil {
			damage = &DamageError{Path: s.path, Offset: f.from, Reason: reason}
		}
		return err
	})
	if err == nil {
		err = damage
	}
	return err
}

// FirstReceivedAt is when the first record that checks out was received, in
// microseconds since 1970; 0 if there is none.
func (s *Scan) FirstReceivedAt() (at int64) {
	_ = s.Records(func(r *Record) error { // an error leaves it unknown
		at = r.ReceivedAt
		return errStop
	})
	return at
}

// OffsetAbove is the lowest offset of an entry with a first seq above last, or the size
// of the file.
func (s *Scan) OffsetAbove(last uint64) (offset int64, err error) {
	offset = s.Size
	err = s.frames(func(_ *scanner, f frame) error {
		if f.firstSeq > last {
			offset = min(offset, f.start)
		}
		return nil
	})
	return offset, err
}

// Contains reports whether every frame that checks out in other is in s: the same
// headers, hence the same checksums.
func (s *Scan) Contains(other *Scan) (bool, error) {
	if len(other.Pieces) == 0 {
		return true, nil
	}
	have := map[uint64]frameHeader{} // each with the payload's checksum
	if err := s.frames(func(_ *scanner, f frame) error { have[f.firstSeq] = f.frameHeader; return nil }); err != nil {
		return false, err
	}
	in := true
	err := other.frames(func(_ *scanner, f frame) error { in = in && have[f.firstSeq] == f.frameHeader; return nil })
	return in, err
}

// Only returns a copy of the scan with one of its pieces.
func (s *Scan) Only(p Piece) *Scan {
	one := *s
	one.Pieces = []Piece{p}
	return &one
}
