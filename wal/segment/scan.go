package segment

import (
	"errors"
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
	unwanted    bool // holds other seqs than those that are wanted
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
