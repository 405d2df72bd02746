package shipper

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// AppendLine appends a record as one line of NDJSON.
func AppendLine(dst []byte, r *wal.Record) ([]byte, error) {
	var e bucket.LineEncoder
	return appendLine(&e, dst, r)
}

func appendLine(e *bucket.LineEncoder, dst []byte, r *wal.Record) ([]byte, error) {
	return e.Append(dst, &bucket.Record{ID: bucket.ID(r.ID), ReceivedAt: r.ReceivedAt, Via: r.Source.String(), Client: r.Client, Usage: r.Usage})
}

// keyOf returns the key of a segment's object. It depends only on the segment's content.
func keyOf(h wal.SegmentHeader, s *wal.Segment, firstReceivedAt int64) bucket.Key {
	return bucket.Key{
		Node: h.Node, LogID: h.LogID, Run: h.Run, FirstSeq: s.FirstSeq(), LastSeq: s.LastSeq(),
		Hour: bucket.HourOf(time.UnixMicro(firstReceivedAt)),
	}
}

// compressor writes objects one after the other and reuses its buffers.
type compressor struct {
	zstd    *zstd.Encoder
	out     *bufio.Writer
	encoder bucket.LineEncoder
	lines   []byte // not compressed yet
}

// blockBytes is how many bytes of lines are hashed and compressed at a time. Larger blocks
// cost less CPU than single lines.
const blockBytes = 32 << 10

func newCompressor(level zstd.EncoderLevel) (*compressor, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level),
		zstd.WithWindowSize(bucket.Window), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	return &compressor{zstd: enc, out: bufio.NewWriterSize(nil, 64<<10)}, nil
}

// compress writes the object of a segment at the beginning of file, as one zstd frame.
// Object.Size excludes older bytes that file may contain after it.
func (c *compressor) compress(s *wal.Segment, file *os.File) (*bucket.Object, error) {
	header, err := s.Header()
	if err != nil {
		return nil, err
	}
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	var size countingWriter
	c.out.Reset(io.MultiWriter(file, crc, &size))
	c.zstd.Reset(c.out)
	c.lines = c.lines[:0]

	o := &bucket.Object{Body: file, Metadata: bucket.Metadata{
		Format: bucket.Format,
		Node:   header.Node, LogID: bucket.HexID(header.LogID), Run: bucket.HexID(header.Run),
		FirstSeq: s.FirstSeq(), LastSeq: s.LastSeq(),
	}}
	lines := sha256.New()
	flush := func() error {
		o.RawBytes += int64(len(c.lines))
		lines.Write(c.lines)
		_, err := c.zstd.Write(c.lines)
		c.lines = c.lines[:0]
		runtime.Gosched() // compression yields the processor to waiting goroutines
		return err
	}
	for r, err := range s.Records() {
		if err != nil {
			return nil, err
		}
		if o.Records == 0 {
			o.Key = keyOf(header, s, r.ReceivedAt).String()
		}
		if c.lines, err = appendLine(&c.encoder, c.lines, r); err != nil {
			return nil, err
		}
		o.Records++
		if len(c.lines) >= blockBytes {
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
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	o.SHA256 = hex.EncodeToString(lines.Sum(nil))
	o.Size, o.CRC32C = int64(size), crc.Sum32()
	return o, nil
}

type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}
