package segment

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"

	"collectord/wal/vfs"
)

// Wanted is what a scan looks for.
type Wanted struct {
	LogID       uint64 // of the log whose frames are taken first; 0 if it is not known
	First, Last uint64
	// Others says that frames with other seqs are no damage: their records are
	// elsewhere too.
	Others bool
}

// All wants every record of a log.
func All(logID uint64) Wanted { return Wanted{LogID: logID, First: 1, Last: MaxSeq - 1} }

// Scan is what there is in a segment's file, damaged or not.
type Scan struct {
	Header    Header
	Size      int64 // of the file
	Begin     int64 // where its header ends; 0 if that can't be read
	End       int64 // of the last good frame in the file, or Begin
	Written   int64 // where the zeros begin that the file ends with, at or above End
	Pieces    []Piece
	Damaged   []ByteRange      // bytes that are part of no good entry
	Unread    *UnreadableError // the disk did not give all of the file; or nil
	Pages     []ByteRange      // that it did not give
	Misplaced bool             // good frames are not in the order of their seqs, or there twice
	Reason    error            // what is wrong with the first of them
	Missing   bool             // there is no file

	disk vfs.Disk
	path string
}

// Piece is an unbroken range of records that check out.
type Piece struct {
	SeqRange
	extents []extent // by seq
}

// extent is a row of frames that check out, with rising seqs, each behind the
// right length. It stands for any number of frames, so that what a scan keeps
// grows with the damage, not with the segment.
type extent struct {
	start       int64 // of the length before the first frame, or from if that is wrong
	from, to    int64
	first, last uint64
	owner       owner
	passed      bool // holds other seqs than those that are wanted
}

// owner is the log and run that a frame says it belongs to.
type owner struct{ logID, run uint64 }

// Scan reads the file at path for every frame that checks out, wherever it is.
// What the disk does not give counts as damaged, page by page. Other errors come
// from the disk, or are ErrVersion.
func (want Wanted) Scan(disk vfs.Disk, path string) (*Scan, error) {
	result := &Scan{disk: disk, path: path}
	s, err := open(disk, path)
	var unreadable *UnreadableError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		result.Reason, result.Missing = errors.New("its file is missing"), true
		return result, nil
	case errors.As(err, &unreadable):
		result.Reason, result.Unread = unreadable.Err, unreadable
		return result, nil
	case err != nil:
		return nil, err
	}
	defer s.close()
	c := &collector{Scan: result, scanner: s, want: want}
	c.Size = s.in.size
	reason, err := s.readHeader()
	if err != nil {
		return nil, err
	}
	if errors.Is(reason, ErrVersion) {
		return nil, &DamageError{Path: path, Reason: reason}
	}
	c.Header, c.Begin, c.Written = s.header, s.begin, s.begin
	if err := c.collectAll(); err != nil {
		return nil, err
	}
	if err := c.conclude(); err != nil {
		return nil, err
	}
	if s.in.err != nil {
		c.Pages = s.in.ranges()
		c.Written = max(c.Written, c.Pages[len(c.Pages)-1].To) // nobody knows
		c.Unread = &UnreadableError{Path: path, Pages: len(s.in.unread), Err: s.in.err}
	}
	c.explain()
	return c.Scan, nil
}

// explain says what is wrong, if something is.
func (s *Scan) explain() {
	switch {
	case s.Unread != nil:
		s.Reason = s.Unread
	case s.Reason != nil:
	case s.Begin == 0 && s.Size > 0:
		s.Reason = errors.New("segment header does not check out")
	case len(s.Damaged) > 0:
		s.Reason = errors.New("bytes do not check out")
	case s.Misplaced:
		s.Reason = errors.New("frames are not where they belong")
	case s.Size == 0:
		s.Reason = errors.New("its file is empty")
	}
}

// HasOthers reports whether records within a range are in the file that do not go on
// from the frame that begins at seq first.
func (s *Scan) HasOthers(first uint64, within SeqRange) bool {
	return slices.ContainsFunc(s.Pieces, func(p Piece) bool {
		return slices.ContainsFunc(p.extents, func(e extent) bool {
			return e.first != first && e.first <= within.Last && e.last >= within.First
		})
	})
}

// IsWhole reports whether every record from first to last is there, and no other.
func (s *Scan) IsWhole(first, last uint64) bool {
	return len(s.Pieces) == 1 && s.Pieces[0].SeqRange == SeqRange{first, last}
}

// Last is the seq of the last record that checks out, or 0.
func (s *Scan) Last() uint64 {
	if len(s.Pieces) == 0 {
		return 0
	}
	return s.Pieces[len(s.Pieces)-1].Last
}

// Count is how many records check out.
func (s *Scan) Count() (n uint64) {
	for _, p := range s.Pieces {
		n += p.Last - p.First + 1
	}
	return n
}

// EndsExactly reports whether the file ends with its last record, as that of every
// segment does that was sealed without trouble.
func (s *Scan) EndsExactly() bool {
	if len(s.Pieces) == 0 {
		return false
	}
	p := s.Pieces[len(s.Pieces)-1]
	return p.extents[len(p.extents)-1].to == s.Size
}

// Gaps lists the ranges of seqs from first to last that no piece holds.
func (s *Scan) Gaps(first, last uint64) []SeqRange { return Gaps(first, last, s.Pieces) }

// Gaps lists the ranges of seqs from first to last that no piece holds.
func Gaps(first, last uint64, pieces []Piece) (gaps []SeqRange) {
	for _, p := range pieces {
		if p.First > first {
			gaps = append(gaps, SeqRange{first, p.First - 1})
		}
		first = p.Last + 1
	}
	if first <= last {
		gaps = append(gaps, SeqRange{first, last})
	}
	return gaps
}

// reopen opens the file again to read what was found in it.
func (s *Scan) reopen() (*scanner, error) {
	in, err := open(s.disk, s.path)
	if err != nil {
		return nil, err
	}
	in.in.size = s.Size
	return in, nil
}

// Open opens the file to read bytes of it; what the disk does not give are zeros.
func (s *Scan) Open() (in io.ReaderAt, end func(), err error) {
	r, err := s.reopen()
	if err != nil {
		return nil, nil, err
	}
	return r.in, r.close, nil
}

// eachFrame goes through the frames of an extent.
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
			return &DamageError{Path: s.path, Offset: from, Reason: reason} // it was good a moment ago
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

// frames goes through all frames that check out.
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

// Records calls each for every record that checks out, and returns its first error.
// The record is valid until the next. Where a frame does not check out any more, it
// goes on with the next one, and returns a *DamageError in the end.
func (s *Scan) Records(each func(*Record) error) error {
	var damage error
	err := s.frames(func(in *scanner, f frame) error {
		_, reason, err := in.frameAt(f.from, nil) // the disk may not give the same twice
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
	_ = s.Records(func(r *Record) error { // what can't be read is not known
		at = r.ReceivedAt
		return errStop
	})
	return at
}

// OffsetAbove is where the first entry begins that holds a seq above last, or the
// size of the file.
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

// Holds reports whether the file has every frame that checks out in another.
func (s *Scan) Holds(other *Scan) (bool, error) {
	if len(other.Pieces) == 0 {
		return true, nil
	}
	have := map[uint64]frameHeader{} // with the checksum of the payload
	if err := s.frames(func(_ *scanner, f frame) error { have[f.firstSeq] = f.frameHeader; return nil }); err != nil {
		return false, err
	}
	in := true
	err := other.frames(func(_ *scanner, f frame) error { in = in && have[f.firstSeq] == f.frameHeader; return nil })
	return in, err
}

// Only is the same scan, of one of its pieces.
func (s *Scan) Only(p Piece) *Scan {
	one := *s
	one.Pieces = []Piece{p}
	return &one
}

// HiddenRecords is at most how many records may be behind the last good frame, in
// what the disk did not give; 0 if all was read up to the first page of zeros.
func (s *Scan) HiddenRecords() (records uint64, err error) {
	if s.Unread == nil {
		return 0, nil
	}
	if s.Unread.Pages == 0 { // it could not be opened: all of it may be records
		if info, err := s.disk.Stat(s.path); err == nil {
			s.Size = info.Size()
		}
		return MostRecords(s.disk, s.path), nil
	}
	in, err := s.reopen()
	if err != nil {
		return 0, err
	}
	defer in.close()
	at, found := s.End, false
	for at < s.Size {
		page, err := in.bytes(at, int(min(pageEnd(at), s.Size)-at))
		if err != nil {
			return 0, err
		}
		unread := in.in.isUnread(at)
		// No usage holds a page of zeros: nothing was written from here on.
		if !unread && len(bytes.TrimRight(page, "\x00")) == 0 {
			break
		}
		found = found || unread
		at += int64(len(page))
	}
	if !found {
		return 0, nil
	}
	return max(1, uint64(at-s.End)/RecordOverhead), nil
}

// maxUnsealed is more records than a segment has before it is sealed.
const maxUnsealed = 1 << 25

// MostRecords is at most how many records are in a file that can't be opened.
func MostRecords(disk vfs.Disk, path string) uint64 {
	info, err := disk.Stat(path)
	if err != nil {
		return maxUnsealed
	}
	return max(1, min(maxUnsealed, uint64(info.Size())/RecordOverhead))
}
