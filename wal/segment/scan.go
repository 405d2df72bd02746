package segment

import (
	"errors"
	"io/fs"
	"slices"

	"collectord/wal/vfs"
)

// Wanted selects the frames that a scan looks for: those whose records are all in the
// range First to Last.
type Wanted struct {
	LogID       uint64 // frames of this log take precedence; 0 if unknown
	First, Last uint64
	// AllowOthers means that valid frames entirely below First or above Last do not
	// count as damage, because other segments contain their records, too.
	AllowOthers bool
}

// All returns a Wanted for every record of a log.
func All(logID uint64) Wanted { return Wanted{LogID: logID, First: 1, Last: MaxSeq - 1} }

// Scan describes the content of a segment's file, damaged or not.
type Scan struct {
	Header       Header           // zero if invalid or another segment's; LogID and Run are then those of the frames
	Size         int64            // in bytes
	HeaderEnd    int64            // end of the header; 0 if the header is invalid or another segment's
	FramesEnd    int64            // end of the last wanted frame, or Begin
	DataEnd      int64            // start of the zeros at the end of the file; unreadable pages do not count as zeros
	Pieces       []Piece          // by seq
	Damaged      []ByteRange      // bytes that belong to no valid entry
	Unread       *UnreadableError // set if the disk could not read all of the file
	UnreadRanges []ByteRange      // bytes that the disk could not read
	Misplaced    bool             // wanted frames are not in the order of their seqs, or are in the file twice
	Reason       error            // why the first damaged bytes are damaged, or nil
	Missing      bool             // the file does not exist

	disk vfs.Disk
	path string
}

// Piece is an unbroken range of valid records.
type Piece struct {
	SeqRange
	extents []extent // by seq
}

// extent is a sequence of adjacent valid frames with consecutive seqs and correct lengths
// between them. One extent covers any number of frames, so the memory of a scan grows
// with the damage and not with the segment.
type extent struct {
	entryStart  int64 // offset of the first frame's length, or from if that length is wrong
	from, to    int64
	first, last uint64
	owner       owner
	unwanted    bool // its records are outside the wanted range
}

// owner is the log id and run of a frame's header.
type owner struct{ logID, run uint64 }

// Scan finds every valid frame in the file at path, at any offset. Pages that the disk
// can't read count as damaged. A missing file is not an error: see Missing. Scan returns
// errors of the disk, a *DamageError that wraps ErrVersion, and errors of a file that
// changes during the scan.
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
	c.Size = s.pages.size
	reason, err := s.readHeader()
	if err != nil {
		return nil, err
	}
	if errors.Is(reason, ErrVersion) {
		return nil, &DamageError{Path: path, Reason: reason}
	}
	c.Header, c.HeaderEnd, c.DataEnd = s.header, s.headerEnd, s.headerEnd
	if err := c.collectAll(); err != nil {
		return nil, err
	}
	if err := c.conclude(); err != nil {
		return nil, err
	}
	if s.pages.err != nil {
		c.UnreadRanges = s.pages.unreadRanges()
		c.DataEnd = max(c.DataEnd, c.UnreadRanges[len(c.UnreadRanges)-1].To) // unreadable pages may contain records
		c.Unread = &UnreadableError{Path: path, Pages: len(s.pages.unreadPages), Err: s.pages.err}
	}
	c.explain()
	return c.Scan, nil
}

// explain sets Reason if the segment is damaged or could not be read.
func (s *Scan) explain() {
	switch {
	case s.Unread != nil:
		s.Reason = s.Unread
	case s.Reason != nil:
	case s.HeaderEnd == 0 && s.Size > 0:
		s.Reason = errors.New("segment header is damaged")
	case len(s.Damaged) > 0:
		s.Reason = errors.New("bytes are damaged")
	case s.Misplaced:
		s.Reason = errors.New("frames are not where they belong")
	case s.Size == 0:
		s.Reason = errors.New("file is empty")
	}
}

// HasOthers reports whether the file has records of the range within in an extent that
// does not begin at seq first.
func (s *Scan) HasOthers(first uint64, within SeqRange) bool {
	return slices.ContainsFunc(s.Pieces, func(p Piece) bool {
		return slices.ContainsFunc(p.extents, func(e extent) bool {
			return e.first != first && e.first <= within.Last && e.last >= within.First
		})
	})
}

// IsWhole reports whether the valid records are exactly first to last.
func (s *Scan) IsWhole(first, last uint64) bool {
	return len(s.Pieces) == 1 && s.Pieces[0].SeqRange == SeqRange{first, last}
}

// Last returns the seq of the last valid record, or 0 if there is none.
func (s *Scan) Last() uint64 {
	if len(s.Pieces) == 0 {
		return 0
	}
	return s.Pieces[len(s.Pieces)-1].Last
}

// Count returns the number of valid records.
func (s *Scan) Count() (n uint64) {
	for _, p := range s.Pieces {
		n += p.Last - p.First + 1
	}
	return n
}

// EndsExactly reports whether the file ends with its last record, as a segment does that
// was sealed without an error.
func (s *Scan) EndsExactly() bool {
	if len(s.Pieces) == 0 {
		return false
	}
	p := s.Pieces[len(s.Pieces)-1]
	return p.extents[len(p.extents)-1].to == s.Size
}

// Gaps returns the ranges of seqs from first to last that no piece contains.
func (s *Scan) Gaps(first, last uint64) []SeqRange { return Gaps(first, last, s.Pieces) }

// Gaps returns the ranges of seqs from first to last that no piece contains. pieces must be
// sorted, and within first to last.
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
