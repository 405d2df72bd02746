package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Verifier reads whole objects and returns what is in them. One can be used for
// many, one after the other; it takes about 3 MiB.
type Verifier struct {
	zstd *zstd.Decoder
	hash hash.Hash
	buf  []byte
}

// Contents is what a Verifier found in an object.
type Contents struct {
	Metadata  Metadata // as the storage has it
	Truncated bool     // its end is cut off
	RawBytes  int64    // of its lines

	problem         string // of the object in itself
	records         uint64
	sha256          string
	firstID, lastID textID // of version 7; zero: none
}

// NewVerifier makes a Verifier. The caller closes it.
func NewVerifier() (*Verifier, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return &Verifier{zstd: dec, hash: sha256.New(), buf: make([]byte, 128<<10)}, nil
}

// Close releases the verifier's buffers.
func (v *Verifier) Close() { v.zstd.Close() }

// Read reads an object to its end. It returns an error only when the storage failed;
// what is wrong with the object is in its Contents.
func (v *Verifier) Read(ctx context.Context, store Store, key string) (c Contents, err error) {
	body, stored, err := store.Open(ctx, key)
	if err != nil {
		return c, err
	}
	defer body.Close()
	c, err = v.read(body, stored.Size)
	c.Metadata = stored.Metadata
	return c, err
}

func (v *Verifier) read(body io.Reader, size int64) (c Contents, err error) {
	in := &source{in: body, size: size}
	v.hash.Reset()
	var lines lineScanner
	err = v.zstd.Reset(in)
	for err == nil {
		var n int
		n, err = v.zstd.Read(v.buf)
		v.hash.Write(v.buf[:n])
		c.RawBytes += int64(n)
		lines.scan(v.buf[:n])
	}
	if in.err != nil {
		return c, in.err
	}
	c.records, c.firstID, c.lastID, c.problem = lines.records, lines.first, lines.last, lines.problem
	c.sha256 = hex.EncodeToString(v.hash.Sum(nil))
	switch {
	case errors.Is(err, io.EOF) && in.read == 0:
		c.Truncated, c.problem = true, "it is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.Truncated, c.problem = true, fmt.Sprintf("it ends within its frame, after %d records", c.records)
	case !errors.Is(err, io.EOF):
		c.problem = fmt.Sprintf("it does not check out after %d records: %v", c.records, err)
	case lines.inLine:
		c.Truncated, c.problem = true, fmt.Sprintf("its last line is cut off after %d records", c.records)
	}
	return c, nil
}

// HasMetadata reports whether the storage knows the SHA-256 of the lines. Without it,
// lines are checked by the checksum of their frame, their count and their ids.
func (c *Contents) HasMetadata() bool { return c.Metadata.SHA256 != "" }

// Problem returns why an object is not what its name and its metadata promise; empty
// if it is.
func (c *Contents) Problem(want Key) string {
	is, known := c.Metadata.Key()
	is.Hour, is.Beside, is.SHA8 = want.Hour, want.Beside, want.SHA8
	count := want.LastSeq - want.FirstSeq + 1
	switch m := c.Metadata; {
	case c.problem != "":
		return c.problem
	case c.HasMetadata() && (!known || is != want):
		return fmt.Sprintf("it is another object under this name: log %s, run %s, seq %d to %d", m.LogID, m.Run, m.FirstSeq, m.LastSeq)
	case c.records != count:
		return fmt.Sprintf("it holds %d records, and its name says %d", c.records, count)
	case c.HasMetadata() && (c.records != m.Records || c.RawBytes != m.RawBytes):
		return fmt.Sprintf("its lines are not those of its metadata: %d records of %d bytes, not %d of %d", c.records, c.RawBytes, m.Records, m.RawBytes)
	case c.HasMetadata() && c.sha256 != m.SHA256:
		return "its lines are not those of its metadata: SHA-256 " + c.sha256 + ", not " + m.SHA256
	}
	return ""
}

// NotAfter reports whether the first id of the object is not above the last one of
// the object before.
func (c *Contents) NotAfter(before *Contents) bool {
	return c.firstID != textID{} && before.lastID != textID{} && bytes.Compare(before.lastID[:], c.firstID[:]) >= 0
}

// lineScanner counts lines and looks at their ids.
type lineScanner struct {
	records     uint64
	first, last textID // of version 7
	problem     string
	head        [64]byte // of a line that came in parts
	held        int
	inLine      bool
}

func (l *lineScanner) scan(p []byte) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end >= 0 && !l.inLine {
			l.line(p[:end])
			p = p[end+1:]
			continue
		}
		part := p
		if end >= 0 {
			part = p[:end]
		}
		l.held += copy(l.head[l.held:], part)
		l.inLine = true
		if end < 0 {
			return
		}
		l.line(l.head[:l.held])
		l.held, l.inLine = 0, false
		p = p[end+1:]
	}
}

// line looks at the head of a line.
func (l *lineScanner) line(head []byte) {
	const version = idStart + len("01234567-0123-") // of the UUID
	l.records++
	if len(head) <= idEnd || string(head[:idStart]) != `{"id":"` || head[idEnd] != '"' {
		if l.problem == "" {
			l.problem = fmt.Sprintf("line %d is no record", l.records)
		}
		return
	}
	if head[version] != '7' { // derived from an Idempotency-Key: in no order
		return
	}
	id := head[idStart:idEnd]
	if l.last == (textID{}) {
		copy(l.first[:], id)
	} else if bytes.Compare(l.last[:], id) >= 0 && l.problem == "" {
		l.problem = fmt.Sprintf("the id of line %d is not above the one before", l.records)
	}
	copy(l.last[:], id)
}
