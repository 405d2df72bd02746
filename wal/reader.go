package wal

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"

	"collectord/wal/vfs"
)

// DamageError says where bytes of the log do not check out, and why.
type DamageError struct {
	Path   string
	Offset int64 // of the first byte that is not part of a good entry
	Reason error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d: %v", e.Path, e.Offset, e.Reason)
}

func (e *DamageError) Unwrap() error { return e.Reason }

// frameReader reads a log file entry by entry. It believes no length before its
// checksum is verified, and holds a frame in memory, or one record and some of a
// frame beyond maxFrame, which it reads twice.
type frameReader struct {
	file   vfs.File
	read   readAt
	in     *bufio.Reader
	size   int64 // of the file when it was opened
	offset int64 // just past the last good entry
	header SegmentHeader
	buf    []byte // payload of the current frame, or a part of it
	unread int    // bytes of the payload that are not in buf yet
	sum    uint32 // CRC-32C of those that were read again so far
	want   uint32 // and what it has to be in the end
}

// openFrames opens the log file at path and reads its segment header. The
// caller closes it.
func openFrames(disk disk, path string) (*frameReader, error) {
	file, err := disk.openRegular(path)
	if isUnreadable(err) {
		return nil, &DamageError{Path: path, Reason: err}
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	r := &frameReader{file: file, read: disk.reader(), size: info.Size()}
	r.seek(0)
	if err := r.readHeader(); err != nil {
		file.Close()
		return nil, err
	}
	return r, nil
}

func (r *frameReader) close() { r.file.Close() }

// seek goes on reading at an offset.
func (r *frameReader) seek(off int64) {
	from := io.NewSectionReader(fileAt{r.file, r.read}, off, math.MaxInt64-off)
	if r.in == nil {
		r.in = bufio.NewReaderSize(from, int(min(64<<10, r.size)))
		return
	}
	r.in.Reset(from)
}

// fileAt is a file as an io.ReaderAt.
type fileAt struct {
	file vfs.File
	read readAt
}

func (f fileAt) ReadAt(p []byte, off int64) (int, error) { return f.read(f.file, p, off) }

func (r *frameReader) damaged(reason error) error {
	return &DamageError{Path: r.file.Name(), Offset: r.offset, Reason: reason}
}

// entryLength reads the length before an entry and returns how many bytes it
// took. io.EOF means that the file ends here, as it should.
func (r *frameReader) entryLength() (length uint64, took int64, err error) {
	for shift := 0; ; shift += 7 {
		b, err := r.in.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && took > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, took, err
		}
		took++
		length |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return length, took, nil
		}
		if shift >= 28 { // beyond maxEntry
			return 0, took, errors.New("entry length is out of range")
		}
	}
}

func (r *frameReader) readHeader() error {
	length, took, err := r.entryLength()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("file is empty")
		}
		return r.frameError(err)
	}
	if length > segmentHeaderSize+255+4 {
		return r.damaged(errors.New("segment header has the wrong length"))
	}
	entry := make([]byte, length)
	if _, err := io.ReadFull(r.in, entry); err != nil {
		return r.frameError(err)
	}
	if r.header, err = decodeSegmentHeader(entry); err != nil {
		return r.damaged(err)
	}
	r.offset = took + int64(length)
	return nil
}

// next returns the next frame; its payload is valid until the call after, and
// complete after more. At the end of the file the error is io.EOF; what does not
// check out is a *DamageError; anything else comes from the disk.
func (r *frameReader) next() (frameHeader, []byte, error) {
	var none frameHeader
	length, took, err := r.entryLength()
	if errors.Is(err, io.EOF) && took == 0 {
		return none, nil, io.EOF
	}
	if err != nil {
		return none, nil, r.frameError(err)
	}
	if length < frameHeaderSize || length > maxEntry || int64(length) > r.size-r.offset-took {
		return none, nil, r.damaged(fmt.Errorf("entry length %d does not fit", length))
	}
	var head [frameHeaderSize]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return none, nil, r.frameError(err)
	}
	h, err := decodeFrameHeader(head[:])
	if err != nil {
		return none, nil, r.damaged(err)
	}
	if uint64(h.payloadLen) != length-frameHeaderSize {
		return none, nil, r.damaged(errors.New("frame and entry disagree about the length"))
	}
	if h.logID != r.header.LogID || h.run != r.header.Run {
		return none, nil, r.damaged(errors.New("frame belongs to another log or run"))
	}
	if h.payloadLen > maxFrame {
		start := r.offset + took + frameHeaderSize
		if err := r.verify(h, start); err != nil {
			return none, nil, err
		}
		r.offset += took + int64(length)
		return h, nil, nil
	}
	if cap(r.buf) < int(h.payloadLen) {
		r.buf = make([]byte, h.payloadLen)
	}
	payload := r.buf[:h.payloadLen]
	if _, err := io.ReadFull(r.in, payload); err != nil {
		return none, nil, r.frameError(err)
	}
	if crc32.Checksum(payload, castagnoli) != h.payloadCRC {
		return none, nil, r.damaged(errBadCRC)
	}
	r.offset += took + int64(length)
	return h, payload, nil
}

// pieceSize is how much of a large frame is read at a time.
const pieceSize = 256 << 10

// verify reads the payload of a large frame, which begins at start, and goes back
// to its beginning.
func (r *frameReader) verify(h frameHeader, start int64) error {
	if cap(r.buf) < pieceSize {
		r.buf = make([]byte, pieceSize)
	}
	sum := uint32(0)
	for left := int(h.payloadLen); left > 0; {
		piece := r.buf[:min(left, pieceSize)]
		if _, err := io.ReadFull(r.in, piece); err != nil {
			return r.frameError(err)
		}
		sum = crc32.Update(sum, castagnoli, piece)
		left -= len(piece)
	}
	if sum != h.payloadCRC {
		return r.damaged(errBadCRC)
	}
	r.seek(start)
	r.unread, r.sum, r.want = int(h.payloadLen), 0, sum
	return nil
}

// more returns the rest of a payload with another record, if there is one. What
// it returned before is no longer valid.
func (r *frameReader) more(rest []byte) ([]byte, error) {
	for r.unread > 0 && len(rest) < nextSize(rest) { // twice where the record is large
		size := min(max(nextSize(rest), pieceSize), len(rest)+r.unread)
		if cap(r.buf) < size {
			r.buf = make([]byte, size)
		}
		n := copy(r.buf[:size], rest)
		piece := r.buf[n:size]
		if _, err := io.ReadFull(r.in, piece); err != nil {
			return nil, r.frameError(err)
		}
		rest = r.buf[:n+len(piece)]
		r.unread -= len(piece)
		if r.sum = crc32.Update(r.sum, castagnoli, piece); r.unread == 0 && r.sum != r.want {
			return nil, r.damaged(errBadCRC) // it was good a moment ago
		}
	}
	return rest, nil
}

// frameError makes damage of a file that ends too soon, or that the disk does not
// give. Other errors are not of the file.
func (r *frameReader) frameError(err error) error {
	var fromDisk *fs.PathError
	if errors.As(err, &fromDisk) && !isUnreadable(err) {
		return err
	}
	return r.damaged(err)
}
