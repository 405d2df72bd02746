package segment

import (
	"io"
)

// reopen opens the file again, limited to its size at the time of the scan.
func (s *Scan) reopen() (*scanner, error) {
	in, err := open(s.disk, s.path)
	if err != nil {
		return nil, err
	}
	in.pages.size = s.Size
	return in, nil
}

// Open opens the file to read its bytes. Pages that the disk can't read read as zeros.
// The caller must call end.
func (s *Scan) Open() (in io.ReaderAt, end func(), err error) {
	r, err := s.reopen()
	if err != nil {
		return nil, nil, err
	}
	return r.pages, r.close, nil
}

// eachFrame calls each for the frames of an extent. It verifies their headers again, but
// not their records.
func (s *scanner) eachFrame(e extent, each func(frame) error) error {
	for start, from := e.entryStart, e.from; from < e.to; {
		head, err := s.bytes(from, frameHeaderSize)
		if err != nil {
			return err
		}
		if len(head) < frameHeaderSize {
			return io.ErrUnexpectedEOF
		}
		h, reason := decodeFrameHeader(head)
		if reason != nil {
			return &DamageError{Path: s.path, Offset: from, Reason: reason} // the header was valid during the scan
		}
		f := frame{frameHeader: h, entryStart: start, from: from, to: from + frameHeaderSize + int64(h.payloadLen)}
		if f.to > e.to {
			return io.ErrUnexpectedEOF
		}
		if err := each(f); err != nil {
			return err
		}
		if f.to == e.to {
			return nil
		}
		_, prefixLen, err := s.length(f.to)
		if err != nil {
			return err
		}
		start, from = f.to, f.to+int64(max(prefixLen, 1))
	}
	return nil
}

// frames calls each for all valid frames, in the order of their seqs.
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

// Records calls the function each for every valid record, in the order of seqs. If it
// returns an error, Records stops and returns that error. The record is reused for the next call. If a frame's records have become
// invalid, Records continues with the next frame and returns a *DamageError at the end.
// An invalid frame header ends it at once.
func (s *Scan) Records(each func(*Record) error) error {
	var damage error
	err := s.frames(func(in *scanner, f frame) error {
		_, reason, err := in.frameAt(f.from, nil) // the disk may return other bytes than during the scan
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

// FirstReceivedAt returns when the first valid record was received, in microseconds since
// 1970 UTC. It returns 0 if there is none.
func (s *Scan) FirstReceivedAt() (at int64) {
	_ = s.Records(func(r *Record) error { // after an error the result stays 0
		at = r.ReceivedAt
		return errStop
	})
	return at
}

// OffsetAbove returns the lowest offset of an entry whose first seq is above last, or the
// size of the file if there is none.
func (s *Scan) OffsetAbove(last uint64) (offset int64, err error) {
	offset = s.Size
	err = s.frames(func(_ *scanner, f frame) error {
		if f.firstSeq > last {
			offset = min(offset, f.entryStart)
		}
		return nil
	})
	return offset, err
}

// Contains reports whether s has every valid frame of other. Equal headers mean equal
// frames, because a header contains the payload's checksum.
func (s *Scan) Contains(other *Scan) (bool, error) {
	if len(other.Pieces) == 0 {
		return true, nil
	}
	have := map[uint64]frameHeader{} // by first seq
	if err := s.frames(func(_ *scanner, f frame) error { have[f.firstSeq] = f.frameHeader; return nil }); err != nil {
		return false, err
	}
	in := true
	err := other.frames(func(_ *scanner, f frame) error { in = in && have[f.firstSeq] == f.frameHeader; return nil })
	return in, err
}

// WithPiece returns a copy of the scan whose only piece is p.
func (s *Scan) WithPiece(p Piece) *Scan {
	one := *s
	one.Pieces = []Piece{p}
	return &one
}
