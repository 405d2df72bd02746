package bucket

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Damage means that an object is not what it should be. Every other error of reading
// one is the storage's.
type Damage struct {
	Records uint64 // that could be read before it
	Err     error
}

func (d *Damage) Error() string { return fmt.Sprintf("damaged after %d records: %v", d.Records, d.Err) }
func (d *Damage) Unwrap() error { return d.Err }

// source is the body of an object. It distinguishes a storage that failed from an
// object that is damaged, for which a decoder has the same errors.
type source struct {
	in   io.Reader
	size int64 // of the object; negative: not known
	read int64
	err  error // of the storage
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.read += int64(n)
	if err == io.EOF && s.read < s.size {
		err = &Error{Op: "open", Kind: "network", Err: fmt.Errorf("%d of %d bytes came: %w", s.read, s.size, io.ErrUnexpectedEOF)}
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func newDecoder(in io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
}

// Reader reads the lines of an object.
type Reader struct {
	source  source
	zstd    *zstd.Decoder
	in      *bufio.Reader
	hash    hash.Hash
	records uint64
	bytes   int64
}

// NewReader reads an object from in, of as many bytes as size says, unless that is
// negative. The caller closes the reader, and in.
func NewReader(in io.Reader, size int64) (*Reader, error) {
	r := &Reader{source: source{in: in, size: size}, hash: sha256.New()}
	var err error
	if r.zstd, err = newDecoder(&r.source); err != nil {
		return nil, r.failed(err)
	}
	r.in = bufio.NewReaderSize(r.zstd, 64<<10)
	return r, nil
}

// Next returns the next line, with its line break, valid until the call after;
// io.EOF follows the last one. Other errors are a *Damage, or the storage's.
func (r *Reader) Next() (Line, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := append([]byte(nil), line...)
		var rest []byte
		rest, err = r.in.ReadBytes('\n')
		line = append(long, rest...)
	}
	if err == io.EOF && len(line) == 0 {
		return nil, err
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, r.failed(err)
	}
	r.hash.Write(line)
	r.records++
	r.bytes += int64(len(line))
	return line, nil
}

func (r *Reader) failed(err error) error {
	if r.source.err != nil {
		return r.source.err
	}
	return &Damage{r.records, err}
}

// Sums returns count, size and checksum of the lines read so far.
func (r *Reader) Sums() Metadata {
	return Metadata{Records: r.records, RawBytes: r.bytes, SHA256: hex.EncodeToString(r.hash.Sum(nil))}
}

// Close releases the reader's buffers.
func (r *Reader) Close() { r.zstd.Close() }
