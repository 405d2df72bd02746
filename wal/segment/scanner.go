package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"collectord/wal/vfs"
)

// scanner reads the entries of a segment's file. It verifies a checksum before it uses
// the data. It keeps one frame in memory. Of a frame larger than MaxFrame it keeps one
// record, and reads the frame twice.
//
// It is the only decoder of the file. Records stops at the first damage; a Scan continues
// at the next valid frame.
type scanner struct {
	path      string
	file      vfs.File
	pages     *PageReader
	header    Header
	headerEnd int64 // end of the header; 0 if the header is invalid
	pos       int64 // offset of the next entry

	buf []byte // window of the file, which begins at offset at
	at  int64

	rec Record // reused for every record
}

// frame is a valid frame: its checksums match and its records decode.
type frame struct {
	frameHeader
	entryStart int64 // offset of the entry's length, or from if that length is wrong
	from, to   int64
}

// windowSize is the min size of the window in bytes, unless the file is smaller.
// chunkSize is the number of bytes of a large frame that are read at a time.
const (
	windowSize = 64 << 10
	chunkSize  = 256 << 10
)

// open opens the file at path. The error is an *UnreadableError if the disk can't read
// it.
func open(disk vfs.Disk, path string) (*scanner, error) {
	file, err := disk.OpenRegular(path)
	if vfs.IsUnreadable(err) {
		return nil, &UnreadableError{Path: path, Err: err}
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &scanner{path: path, file: file, pages: &PageReader{file: file, size: info.Size()}}, nil
}

func (s *scanner) close() { s.file.Close() } // no error matters, because nothing was written

// bytes returns n bytes at off, or fewer at the end of the file. The next call overwrites
// them.
func (s *scanner) bytes(off int64, n int) ([]byte, error) {
	if off < s.at || off+int64(n) > s.at+int64(len(s.buf)) {
		kept := 0
		if off >= s.at && off < s.at+int64(len(s.buf)) {
			kept = copy(s.buf, s.buf[off-s.at:])
		}
		if cap(s.buf) < n {
			size := max(n, int(min(windowSize, s.pages.size)))
			if n < MaxFrame { // rounded up, because frames differ in size
				size = max(size, 1<<bits.Len(uint(n)))
			}
			grown := make([]byte, size)
			copy(grown, s.buf[:kept])
			s.buf = grown
		}
		s.buf, s.at = s.buf[:cap(s.buf)], off
		got, err := s.pages.ReadAt(s.buf[kept:], off+int64(kept))
		s.buf = s.buf[:kept+got]
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	b := s.buf[off-s.at:]
	return b[:min(n, len(b))], nil
}

// length reads the length of an entry. prefixLen is the number of bytes that this length
// takes, or 0 if it is invalid.
func (s *scanner) length(off int64) (length int64, prefixLen int, err error) {
	prefix, err := s.bytes(off, MaxLengthPrefix)
	if err != nil {
		return 0, 0, err
	}
	n, prefixLen := binary.Uvarint(prefix)
	if prefixLen <= 0 || n > MaxEntry {
		return 0, 0, nil
	}
	return int64(n), prefixLen, nil
}

// readHeader reads the segment header. reason is why the header is invalid; err is an
// error of the disk.
func (s *scanner) readHeader() (reason, err error) {
	if s.pages.size == 0 {
		return errors.New("file is empty"), nil
	}
	length, prefixLen, err := s.length(0)
	if err != nil {
		return nil, err
	}
	if prefixLen == 0 || length > maxLaterHeader {
		return s.orUnreadable(errors.New("segment header has the wrong length")), nil
	}
	entry, err := s.bytes(int64(prefixLen), int(length))
	if err != nil {
		return nil, err
	}
	if len(entry) < int(length) {
		return s.orUnreadable(io.ErrUnexpectedEOF), nil
	}
	header, reason := decodeHeader(entry)
	if reason != nil {
		return s.orUnreadable(reason), nil
	}
	s.header, s.headerEnd = header, int64(prefixLen)+length
	s.pos = s.headerEnd
	return nil, nil
}

// orUnreadable returns the disk's error if the disk could not read a page, and reason
// otherwise. An unreadable page is the cause of any reason except ErrVersion.
func (s *scanner) orUnreadable(reason error) error {
	if s.pages.err != nil && !errors.Is(reason, ErrVersion) {
		return s.pages.err
	}
	return reason
}

// frameAt reads the frame at off. reason is why no valid frame is there; err is an error
// of the disk. wanted, unless nil, decides by the frame's header whether to read the
// records.
func (s *scanner) frameAt(off int64, wanted func(frameHeader) bool) (f frame, reason, err error) {
	head, err := s.bytes(off, frameHeaderSize)
	if err != nil {
		return f, nil, err
	}
	if len(head) < frameHeaderSize {
		return f, io.ErrUnexpectedEOF, nil
	}
	h, reason := decodeFrameHeader(head)
	switch {
	case reason != nil:
		return f, reason, nil
	case h.count == 0 || h.payloadLen > MaxEntry || h.firstSeq == 0 || h.lastSeq() < h.firstSeq || h.lastSeq() >= MaxSeq:
		return f, errors.New("frame header has impossible values"), nil
	case wanted != nil && !wanted(h):
		return f, errors.New("frame is not of this segment"), nil
	}
	f = frame{frameHeader: h, entryStart: off, from: off, to: off + frameHeaderSize + int64(h.payloadLen)}
	if f.to > s.pages.size {
		return f, io.ErrUnexpectedEOF, nil
	}
	chunk := int64(h.payloadLen)
	if chunk > MaxFrame {
		chunk = chunkSize
	}
	sum := uint32(0)
	for at := off + frameHeaderSize; at < f.to; at += chunk {
		b, err := s.bytes(at, int(min(chunk, f.to-at)))
		if err != nil {
			return f, nil, err
		}
		sum = crc32.Update(sum, castagnoli, b)
	}
	if sum != h.payloadCRC {
		return f, errBadCRC, nil
	}
	reason, err = s.records(f, nil)
	return f, reason, err
}

// next reads the entry at pos and advances pos. The entry must be a frame with the
// header's log and run. next returns io.EOF at the end of the file.
func (s *scanner) next() (f frame, reason, err error) {
	if s.pos >= s.pages.size {
		return f, nil, io.EOF
	}
	length, prefixLen, err := s.length(s.pos)
	if err != nil {
		return f, nil, err
	}
	if prefixLen == 0 {
		return f, s.orUnreadable(errors.New("entry length is out of range")), nil
	}
	f, reason, err = s.frameAt(s.pos+int64(prefixLen), nil)
	switch {
	case err != nil:
		return f, nil, err
	case reason != nil:
		return f, s.orUnreadable(reason), nil
	case f.to-f.from != length:
		return f, errors.New("frame and entry disagree about the length"), nil
	case f.logID != s.header.LogID || f.run != s.header.Run:
		return f, errors.New("frame belongs to another log or run"), nil
	}
	f.entryStart, s.pos = s.pos, f.to
	return f, nil, nil
}

// errStop is the error with which a callback ends records early.
var errStop = errors.New("stop")

// records calls each, unless nil, for every record of a frame. reason is why the frame is
// invalid, because a disk can return different bytes at each read. An error of each ends
// the call and is returned.
func (s *scanner) records(f frame, each func(*Record) error) (reason, err error) {
	rec := &s.rec
	*rec = Record{Seq: f.firstSeq}
	at := f.from + frameHeaderSize
	if f.payloadLen <= MaxFrame {
		payload, err := s.bytes(at, int(f.payloadLen))
		if err != nil {
			return nil, err
		}
		return decodeRecords(payload, f.count, rec, each)
	}
	sum, verify := uint32(0), each != nil
	for n := range f.count {
		b, err := s.bytes(at, int(min(RecordOverhead, f.to-at)))
		if err != nil {
			return nil, err
		}
		if size := NextSize(b); int64(size) > f.to-at {
			return errShortRecord, nil
		} else if b, err = s.bytes(at, size); err != nil {
			return nil, err
		}
		if _, reason := decodeRecord(b, rec); reason != nil {
			return reason, nil
		}
		at += int64(len(b))
		if verify {
			sum = crc32.Update(sum, castagnoli, b)
			if n == f.count-1 && sum != f.payloadCRC {
				return errBadCRC, nil
			}
		}
		if each != nil {
			if err := each(rec); err != nil {
				return nil, err
			}
		}
		rec.Seq++
	}
	if at != f.to {
		return fmt.Errorf("%d bytes after the last record of a frame", f.to-at), nil
	}
	return nil, nil
}

// decodeRecords is records for a frame whose payload is in memory.
func decodeRecords(payload []byte, count uint32, rec *Record, each func(*Record) error) (reason, err error) {
	for range count {
		if payload, reason = decodeRecord(payload, rec); reason != nil {
			return reason, nil
		}
		if each != nil {
			if err := each(rec); err != nil {
				return nil, err
			}
		}
		rec.Seq++
	}
	if len(payload) > 0 {
		return fmt.Errorf("%d bytes after the last record of a frame", len(payload)), nil
	}
	return nil, nil
}
