package segment

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"collectord/wal/vfs"
)

// DamageError reports where a segment is damaged, and why.
type DamageError struct {
	Path   string
	Offset int64 // of the first byte in the file that belongs to no valid entry
	Reason error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d: %v", e.Path, e.Offset, e.Reason)
}

func (e *DamageError) Unwrap() error { return e.Reason }

// openStrict opens a file and reads its header. The error is a *DamageError if the disk
// can't read the file, or if the header is invalid.
func openStrict(disk vfs.Disk, path string) (*scanner, error) {
	s, err := open(disk, path)
	var unreadable *UnreadableError
	if errors.As(err, &unreadable) {
		return nil, &DamageError{Path: path, Reason: unreadable.Err}
	}
	if err != nil {
		return nil, err
	}
	reason, err := s.readHeader()
	if err == nil && reason != nil {
		err = &DamageError{Path: path, Reason: reason}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// ReadHeader reads the header of the segment at path. The error is a *DamageError if the
// header is invalid, and wraps ErrVersion if a later version wrote the header.
func ReadHeader(disk vfs.Disk, path string) (Header, error) {
	s, err := openStrict(disk, path)
	if err != nil {
		return Header{}, err
	}
	defer s.close()
	return s.header, nil
}

// Records reads the sealed segment at path, which contains the records first to last, and
// verifies every checksum. A *DamageError or a disk error ends the iteration. The memory
// of a record is reused by the next step. Records calls pause before each frame but the
// first.
func Records(disk vfs.Disk, path string, first, last uint64, pause func()) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		s, err := openStrict(disk, path)
		if err != nil {
			yield(nil, err)
			return
		}
		defer s.close()
		for seq := first; seq <= last; {
			if seq > first {
				pause()
			}
			at := s.pos
			f, reason, err := s.next()
			switch {
			case errors.Is(err, io.EOF):
				reason, err = fmt.Errorf("segment ends before seq %d, its name says %d", seq, last), nil
			case err != nil || reason != nil:
			case f.firstSeq != seq:
				reason = fmt.Errorf("frame starts at seq %d instead of %d", f.firstSeq, seq)
			case f.lastSeq() > last:
				reason = fmt.Errorf("frame of %d records ends above seq %d", f.count, last)
			default:
				reason, err = s.records(f, func(rec *Record) error {
					if !yield(rec, nil) {
						return errStop
					}
					return nil
				})
			}
			switch {
			case errors.Is(err, errStop):
				return
			case err != nil:
				yield(nil, err)
				return
			case reason != nil:
				yield(nil, &DamageError{Path: path, Offset: at, Reason: s.orUnreadable(reason)})
				return
			}
			seq = f.lastSeq() + 1
		}
	}
}

// Start describes the beginning of a segment's file.
type Start struct {
	Run      uint64 // of the segment header; 0 if the header is invalid
	FirstSeq uint64 // of the first frame's header; 0 if that is invalid or has another log id or run
}

// Peek reads the segment header and the first frame's header. It does not verify the
// records of that frame. Invalid or unreadable parts give zero values. Any other error up
// to the segment header, such as a missing file, is returned.
func Peek(disk vfs.Disk, path string) (start Start, err error) {
	s, err := openStrict(disk, path)
	var damage *DamageError
	if errors.As(err, &damage) {
		return start, nil
	}
	if err != nil {
		return start, err
	}
	defer s.close()
	start.Run = s.header.Run
	_, prefixLen, err := s.length(s.pos)
	if err != nil || prefixLen == 0 {
		return start, nil
	}
	head, err := s.bytes(s.pos+int64(prefixLen), frameHeaderSize)
	if err != nil || len(head) < frameHeaderSize {
		return start, nil
	}
	if h, reason := decodeFrameHeader(head); reason == nil && h.logID == s.header.LogID && h.run == s.header.Run && h.firstSeq < MaxSeq {
		start.FirstSeq = h.firstSeq
	}
	return start, nil
}
