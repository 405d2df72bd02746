package segment

import (
	"errors"
	"io/fs"
	"slices"

	"collectord/wal/vfs"
)

// Wanted is what a scan looks for: frames whose records are all from First to Last.
type Wanted struct {
	LogID       uint64 // of the log whose frames are preferred; 0 if unknown
	First, Last uint64
	// Others means that frames entirely below First or above Last are no damage: their
	// records stand elsewhere, too.
	Others bool
}

// All wants every record of a log.
func All(logID uint64) Wanted { return Wanted{LogID: logID, First: 1, Last: MaxSeq - 1} }

// Scan is what a segment's file holds, damaged or not.
type Scan struct {
	Header    Header           // zero, but for LogID and Run, if it does not check out
	Size      int64            // of the file
	Begin     int64            // end of its header; 0 if that does not check out
	End       int64            // end of the last good frame, or Begin
	Written   int64            // start of the zeros at the end of the file, or End if that is higher
	Pieces    []Piece          // by seq
	Damaged   []ByteRange      // bytes that are part of no good entry
	Unread    *UnreadableError // set if the disk could not read all of the file
	Pages     []ByteRange      // what it could not read
	Misplaced bool             // good frames are not in the order of their seqs, or are there twice
	Reason    error            // why the first damaged bytes are damaged, or nil
	Missing   bool             // there is no file

	disk vfs.Disk
	path string
}

// Piece is an unbroken range of records that check out.
type Piece struct {
	SeqRange
	extents []extent // by seq
}

// extent is a sequence of good frames with rising seqs, each behind a correct length.
// One extent stands for any number of frames, so that the memory of a scan grows with
// the damage and not with the segment.
type extent struct {
	start       int64 // offset of the first frame's length, or from if that is wrong
	from, to    int64
	first, last uint64
	owner       owner
	unwanted    bool // its records are outside of those that are wanted
}

// owner is the log id and run in a frame's header.
type owner struct{ logID, run uint64 }

// Scan finds every frame in the file at path that checks out, wherever it is. Pages
// that the disk can't read count as damaged. The error is one of the disk, or wraps
// ErrVersion.
func (want Wanted) Scan(disk vfs.Disk, path string) (*Scan, error) {
	result := &Scan{disk: disk, path: path}
	s, err := open(disk, path)
	var unreadable *UnreadableError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		result.Reason, result.Missing = errors.New("file is missing"), true
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
		c.Written = max(c.Written, c.Pages[len(c.Pages)-1].To) // these pages may hold anything
		c.Unread = &UnreadableError{Path: path, Pages: len(s.in.unread), Err: s.in.err}
	}
	c.explain()
	return c.Scan, nil
}

// explain sets Reason if something is wrong.
func (s *Scan) explain() {
	switch {
	case s.Unread != nil:
		s.Reason = s.Unread
	case s.Reason != nil:
	case s.Begin == 0 && s.Size > 0:
		s.Reason = errors.New("segment header is damaged")
	case len(s.Damaged) > 0:
		s.Reason = errors.New("bytes are damaged")
	case s.Misplaced:
		s.Reason = errors.New("frames are not where they belong")
	case s.Size == 0:
		s.Reason = errors.New("file is empty")
	}
}

// HasOthers reports whether the file has records within a range in another extent than
// the one that begins at seq first.
func (s *Scan) HasOthers(first uint64, within SeqRange) bool {
	return slices.ContainsFunc(s.Pieces, func(p Piece) bool {
		return slices.ContainsFunc(p.extents, func(e extent) bool {
			return e.first != first && e.first <= within.Last && e.last >= within.First
		})
	})
}

// IsWhole reports whether the records that check out are exactly first to last.
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

// Count is the number of records that check out.
func (s *Scan) Count() (n uint64) {
	for _, p := range s.Pieces {
		n += p.Last - p.First + 1
	}
	return n
}

// EndsExactly reports whether the file ends with its last record, as it does if the
// segment was sealed without an error.
func (s *Scan) EndsExactly() bool {
	if len(s.Pieces) == 0 {
		return false
	}
	p := s.Pieces[len(s.Pieces)-1]
	return p.extents[len(p.extents)-1].to == s.Size
}

// Gaps lists the ranges of seqs from first to last that are in no piece.
func (s *Scan) Gaps(first, last uint64) []SeqRange { return Gaps(first, last, s.Pieces) }

// Gaps lists the ranges of seqs from first to last that are in no piece. Pieces must be
// sorted and within first to last.
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
