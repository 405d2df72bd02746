package shipper

import (
	"bufio"
	"bytes"
	"crypto/md5" //nolint:gosec // what the ETag of S3 is
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"

	"collectord/wal"
)

// Metadata describes an object. It travels in the object itself, behind the
// lines, and where the storage has user metadata also there.
type Metadata struct {
	Format   int    `json:"format"`
	Node     string `json:"node"`
	LogID    string `json:"log_id"`
	Run      string `json:"run"`
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	Records  uint64 `json:"records"`
	RawBytes int64  `json:"raw_bytes"` // of the lines
	SHA256   string `json:"sha256"`    // of the lines, hex
	// Every record of the log with a lower seq was in the storage, or noted there
	// as lost, when this was sent. 0 claims nothing.
	ConfirmedBelow uint64 `json:"confirmed_below"`
}

// sameContent reports whether two objects hold the same lines.
func (m Metadata) sameContent(o Metadata) bool {
	return m.SHA256 != "" && m.SHA256 == o.SHA256 && m.Records == o.Records
}

// An object is one zstd frame (RFC 8878) with the lines, then one skippable
// frame with the metadata as JSON and a footer by which it is found from the
// end:
//
//	+----------------+---------------+-----------+------+----------------+-------+
//	| zstd frame     | 5D 2A 4D 18   | size, u32 | JSON | its size, u32  | "cdM1"|
//	+----------------+---------------+-----------+------+----------------+-------+
const (
	objectFormat   = 1
	skippableMagic = 0x184D2A5D
	footerMagic    = "cdM1"
	footerSize     = 8
	maxMetadata    = 64 << 10
)

// window is what the encoder looks back over, and what a reader must hold.
const window = 1 << 20

// objectSuffix ends the key of every object that holds lines.
const objectSuffix = ".ndjson.zst"

// key names the object of a segment: a pure function of what is in it.
func key(h wal.SegmentHeader, s *wal.Segment, firstAt int64) string {
	return time.UnixMicro(firstAt).UTC().Format("dt=2006-01-02/hour=15/") +
		fmt.Sprintf("%s-%016x-%020d-%020d-%016x"+objectSuffix, h.Node, h.LogID, s.FirstSeq(), s.LastSeq(), h.Run)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant table

// Object is a compressed segment, ready to be put.
type Object struct {
	Key    string // without the destination's prefix
	Body   io.ReaderAt
	Size   int64 // bytes of Body that belong to the object
	CRC32C uint32
	MD5    [md5.Size]byte
	// Replace lets Put replace what is under the key.
	Replace bool
	Metadata
}

// AppendLine appends a record as one line of NDJSON.
func AppendLine(dst []byte, r *wal.Record) ([]byte, error) {
	var c clock
	return c.appendLine(dst, r)
}

// clock tells the time as text. Records of one request were received at once.
type clock struct {
	micros int64
	text   []byte
}

func (c *clock) at(micros int64) []byte {
	if len(c.text) == 0 || micros != c.micros {
		c.micros = micros
		c.text = time.UnixMicro(micros).UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05.000000Z")
	}
	return c.text
}

func (c *clock) appendLine(dst []byte, r *wal.Record) ([]byte, error) {
	dst = append(dst, `{"id":"`...)
	dst = r.ID.AppendTo(dst)
	dst = append(dst, `","received_at":"`...)
	dst = append(dst, c.at(r.ReceivedAt)...)
	dst = append(dst, `","via":"`...)
	dst = append(dst, r.Source.String()...)
	dst = append(dst, '"')
	if r.Client != "" {
		var err error
		dst = append(dst, `,"client":`...)
		if dst, err = jsontext.AppendQuote(dst, r.Client); err != nil {
			return dst, fmt.Errorf("client name: %w", err)
		}
	}
	dst = append(dst, `,"usage":`...)
	dst = append(dst, r.Usage...)
	return append(dst, '}', '\n'), nil
}

// compressor writes objects, one after the other, with the same buffers.
type compressor struct {
	zstd  *zstd.Encoder
	out   *bufio.Writer
	lines []byte // that were not compressed yet

	clock clock
}

// manyLines are bytes of lines that are hashed and compressed at once, which
// costs less than one by one.
const manyLines = 32 << 10

func newCompressor(level zstd.EncoderLevel) (*compressor, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level),
		zstd.WithWindowSize(window), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	return &compressor{zstd: enc, out: bufio.NewWriterSize(nil, 64<<10)}, nil
}

// bytesObject makes an object of a few bytes that are no lines, without metadata.
func bytesObject(key string, text []byte) *Object {
	return &Object{Key: key, Body: bytes.NewReader(text), Size: int64(len(text)), CRC32C: crc32.Checksum(text, castagnoli), MD5: md5.Sum(text)} //nolint:gosec // see above
}

// reader reads the object from its beginning.
func (o *Object) reader() *io.SectionReader { return io.NewSectionReader(o.Body, 0, o.Size) }

// compress writes the object of a segment to the beginning of file.
func (c *compressor) compress(s *wal.Segment, confirmedBelow uint64, file *os.File) (*Object, error) {
	header, err := s.Header()
	if err != nil {
		return nil, err
	}
	crc := crc32.New(castagnoli)
	etag := md5.New() //nolint:gosec // see above
	var size countingWriter
	c.out.Reset(io.MultiWriter(file, crc, etag, &size))
	c.zstd.Reset(c.out)
	c.lines = c.lines[:0]

	o := &Object{Body: file, Metadata: Metadata{
		Format: objectFormat,
		Node:   header.Node, LogID: hexID(header.LogID), Run: hexID(header.Run),
		FirstSeq: s.FirstSeq(), LastSeq: s.LastSeq(), ConfirmedBelow: confirmedBelow,
	}}
	lines := sha256.New()
	flush := func() error {
		o.RawBytes += int64(len(c.lines))
		lines.Write(c.lines)
		_, err := c.zstd.Write(c.lines)
		c.lines = c.lines[:0]
		runtime.Gosched() // who waits for a processor goes first
		return err
	}
	for r, err := range s.Records() {
		if err != nil {
			return nil, err
		}
		if o.Records == 0 {
			o.Key = key(header, s, r.ReceivedAt)
		}
		if c.lines, err = c.clock.appendLine(c.lines, r); err != nil {
			return nil, err
		}
		o.Records++
		if len(c.lines) >= manyLines {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if err := c.zstd.Close(); err != nil {
		return nil, err
	}
	o.SHA256 = hex.EncodeToString(lines.Sum(nil))
	if err := writeTrailer(c.out, o.Metadata); err != nil {
		return nil, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	o.Size, o.CRC32C = int64(size), crc.Sum32()
	etag.Sum(o.MD5[:0])
	return o, nil
}

func hexID(id uint64) string { return fmt.Sprintf("%016x", id) }

type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}

func writeTrailer(w io.Writer, m Metadata) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint32(nil, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)+footerSize))
	b = append(b, text...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	_, err = w.Write(append(b, footerMagic...))
	return err
}

var errNoMetadata = errors.New("object carries no metadata")

// readTrailer reads the metadata from the end of an object.
func readTrailer(r io.ReaderAt, size int64) (m Metadata, err error) {
	var footer [footerSize]byte
	if size < footerSize+8 {
		return m, errNoMetadata
	}
	if _, err := r.ReadAt(footer[:], size-footerSize); err != nil {
		return m, err
	}
	n := int64(binary.LittleEndian.Uint32(footer[:]))
	if string(footer[4:]) != footerMagic || n > maxMetadata || n > size-footerSize-8 {
		return m, errNoMetadata
	}
	frame := make([]byte, 8+n)
	if _, err := r.ReadAt(frame, size-footerSize-int64(len(frame))); err != nil {
		return m, err
	}
	if binary.LittleEndian.Uint32(frame) != skippableMagic || int64(binary.LittleEndian.Uint32(frame[4:])) != n+footerSize {
		return m, errNoMetadata
	}
	if err := json.Unmarshal(frame[8:], &m); err != nil {
		return m, fmt.Errorf("object metadata: %w", err)
	}
	return m, nil
}

// ObjectReader reads the lines of an object.
type ObjectReader struct {
	zstd *zstd.Decoder
	in   *bufio.Reader
	hash hash.Hash
	seen Metadata
}

// NewObjectReader reads an object from r. The caller closes the reader, and r.
func NewObjectReader(r io.Reader) (*ObjectReader, error) {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, err
	}
	return &ObjectReader{zstd: dec, in: bufio.NewReaderSize(dec, 64<<10), hash: sha256.New()}, nil
}

// Next returns the next line, with its line break, valid until the call after;
// io.EOF follows the last one.
func (o *ObjectReader) Next() ([]byte, error) {
	line, err := o.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := append([]byte(nil), line...)
		var rest []byte
		rest, err = o.in.ReadBytes('\n')
		line = append(long, rest...)
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	o.hash.Write(line)
	o.seen.Records++
	o.seen.RawBytes += int64(len(line))
	return line, nil
}

// Seen tells count, size and checksum of the lines read so far.
func (o *ObjectReader) Seen() Metadata {
	m := o.seen
	m.SHA256 = hex.EncodeToString(o.hash.Sum(nil))
	return m
}

// Close releases the reader's buffers.
func (o *ObjectReader) Close() { o.zstd.Close() }
