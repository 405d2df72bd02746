package bucket

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Damage means that the content of an object is wrong. Any other error of reading it is
// the storage's.
type Damage struct {
	Records uint64 // read before the damage
	Err     error
}

func (d *Damage) Error() string { return fmt.Sprintf("damaged after %d records: %v", d.Records, d.Err) }
func (d *Damage) Unwrap() error { return d.Err }

// source is the body of an object. It records errors of the storage, since a decoder
// returns the same errors for a failed storage and a damaged object.
type source struct {
	in         io.Reader
	size       int64 // of the object; negative: not known
	bytesRead  int64
	storageErr error // of the storage
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.bytesRead += int64(n)
	if err == io.EOF && s.bytesRead < s.size {
		err = &Error{Op: "open", Kind: "network", Err: fmt.Errorf("%d of %d bytes arrived: %w", s.bytesRead, s.size, io.ErrUnexpectedEOF)}
	}
	if err != nil && err != io.EOF {
		s.storageErr = err
	}
	return n, err
}

func newDecoder(in io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
}

// MaxLine is the max size of a line in bytes: the largest usage that http.max_record
// allows, 16 MiB, and the members around it. An object with a longer line is damaged.
const MaxLine = 16<<20 + 64<<10

// blockSize is how many bytes a Reader decodes at once, unless a line is longer.
const blockSize = 256 << 10

// Reader reads the lines of objects, one object after the other.
type Reader struct {
	source     source
	zstd       *zstd.Decoder
	buf        []byte
	filled     int    // bytes in buf
	consumed   int    // bytes at the start of buf whose lines were returned; the rest begins a line
	lines      []byte // returned by Lines, but not yet by Next
	records    uint64
	maxRecords uint64 // max number of records; 0: not known
	decodeErr  error  // error of the decoder
}

// NewReader returns a Reader of the object in in, which has size bytes; negative: not
// known. The caller closes the reader, and in.
func NewReader(in io.Reader, size int64) (*Reader, error) {
	dec, err := newDecoder(nil)
	if err != nil {
		return nil, err
	}
	r := &Reader{zstd: dec}
	r.Reset(in, size)
	return r, nil
}

// Reset makes the reader read another object.
func (r *Reader) Reset(in io.Reader, size int64) {
	*r = Reader{source: source{in: in, size: size}, zstd: r.zstd, buf: r.buf}
	if r.buf == nil {
		r.buf = make([]byte, blockSize)
	}
	r.decodeErr = r.zstd.Reset(&r.source)
}

// LimitRecords limits the number of records, for example to that in the object's key.
func (r *Reader) LimitRecords(records uint64) { r.maxRecords = records }

// Lines returns the next whole lines, as many as are decoded at once. They are valid
// until the next call. io.EOF follows the last ones. Another error is a *Damage, or the
// storage's.
func (r *Reader) Lines() ([]byte, error) {
	r.filled = copy(r.buf, r.buf[r.consumed:r.filled])
	r.consumed = 0
	for r.decodeErr == nil {
		if r.filled == len(r.buf) {
			if r.filled == MaxLine {
				return nil, r.wrapError(tooLong())
			}
			size := 4 * r.filled
			if size > 1<<20 { // allocated once for all objects; unused pages use no memory
				size = MaxLine
			}
			r.buf = append(make([]byte, 0, size), r.buf...)[:size]
		}
		var n int
		n, r.decodeErr = r.zstd.Read(r.buf[r.filled:min(r.filled+blockSize, len(r.buf))])
		end := bytes.LastIndexByte(r.buf[r.filled:r.filled+n], '\n') + 1
		if end > 0 {
			r.consumed = r.filled + end
		}
		if r.filled += n; r.consumed > 0 {
			return r.countLines(r.buf[:r.consumed])
		}
	}
	if r.decodeErr == io.EOF && r.filled == 0 && r.source.bytesRead > 0 { //nolint:errorlint // a reader's end is never wrapped
		return nil, io.EOF
	}
	if r.decodeErr == io.EOF { //nolint:errorlint // see above
		r.decodeErr = io.ErrUnexpectedEOF
	}
	return nil, r.wrapError(r.decodeErr)
}

// countLines counts lines and cuts off those beyond the expected number.
func (r *Reader) countLines(lines []byte) ([]byte, error) {
	n := uint64(bytes.Count(lines, []byte{'\n'}))
	if r.maxRecords > 0 && r.records+n > r.maxRecords {
		r.decodeErr = tooManyLines(r.maxRecords)
		n = r.maxRecords - r.records
		rest := lines
		for range n {
			rest = rest[bytes.IndexByte(rest, '\n')+1:]
		}
		lines = lines[:len(lines)-len(rest)]
	}
	if r.records += n; n == 0 {
		return nil, r.wrapError(r.decodeErr)
	}
	return lines, nil
}

func tooManyLines(maxRecords uint64) error {
	return fmt.Errorf("it has more than the %d records that its name promises", maxRecords)
}

func tooLong() error { return fmt.Errorf("a line is longer than %d bytes", MaxLine) }

// Next returns the next line, with its line break. Its errors are those of Lines.
func (r *Reader) Next() (line Line, err error) {
	if len(r.lines) == 0 {
		if r.lines, err = r.Lines(); err != nil {
			return nil, err
		}
	}
	end := bytes.IndexByte(r.lines, '\n') + 1
	line, r.lines = r.lines[:end], r.lines[end:]
	return line, nil
}

func (r *Reader) wrapError(err error) error {
	if r.source.storageErr != nil {
		return r.source.storageErr
	}
	return &Damage{r.records, err}
}

// Close releases the reader's buffers.
func (r *Reader) Close() { r.zstd.Close() }
