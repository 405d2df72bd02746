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

// Verifier reads whole objects and returns their contents. It can be used for many
// objects, one after the other, and takes about 3 MiB.
type Verifier struct {
	zstd *zstd.Decoder
	hash hash.Hash
	buf  []byte
}

// Contents describe an object that a Verifier has read.
type Contents struct {
	Metadata  Metadata // as the storage has it
	Truncated bool     // its end is missing
	RawBytes  int64    // of its lines

	problem         string // of the object itself, without its key and metadata
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

// Read reads an object to its end. It returns an error only if the storage failed;
// problems of the object are in its Contents.
func (v *Verifier) Read(ctx context.Context, store Store, key string) (c Contents, err error) {
	body, stored, err := store.Open(ctx, key)
	if err != nil {
		return c, err
	}
	defer body.Close()
	var maxRecords uint64
	if k, ok := ParseKey(key); ok {
		maxRecords = k.LastSeq - k.FirstSeq + 1
	}
	c, err = v.read(body, stored.Size, maxRecords)
	c.Metadata = stored.Metadata
	return c, err
}

// read stops after the max number of records, since a small object may decode to any
// size.
func (v *Verifier) read(body io.Reader, size int64, maxRecords uint64) (c Contents, err error) {
	in := &source{in: body, size: size}
	v.hash.Reset()
	var lines lineScanner
	err = v.zstd.Reset(in)
	var limitErr error
	for err == nil && limitErr == nil {
		var n int
		n, err = v.zstd.Read(v.buf)
		v.hash.Write(v.buf[:n])
		c.RawBytes += int64(n)
		lines.scan(v.buf[:n])
		switch {
		case maxRecords > 0 && lines.records > maxRecords:
			limitErr = tooManyLines(maxRecords)
		case lines.lineBytes > MaxLine:
			limitErr = tooLong()
		}
	}
	if in.storageErr != nil {
		return c, in.storageErr
	}
	c.records, c.firstID, c.lastID, c.problem = lines.records, lines.first, lines.last, lines.problem
	c.sha256 = hex.EncodeToString(v.hash.Sum(nil))
	switch {
	case limitErr != nil:
		if c.problem == "" {
			c.problem = limitErr.Error()
		}
	case errors.Is(err, io.EOF) && in.bytesRead == 0:
		c.Truncated, c.problem = true, "it is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.Truncated, c.problem = true, fmt.Sprintf("it ends within its frame, after %d records", c.records)
	case !errors.Is(err, io.EOF):
		c.problem = fmt.Sprintf("its content is damaged after %d records: %v", c.records, err)
	case lines.inLine:
		c.Truncated, c.problem = true, fmt.Sprintf("its last line is cut off after %d records", c.records)
	}
	return c, nil
}

// HasMetadata reports whether the storage knows the SHA-256 of the lines. Without it,
// only the checksum of the frame, the count and the ids are checked.
func (c *Contents) HasMetadata() bool { return c.Metadata.SHA256 != "" }

// Problem returns why an object does not match its key and its metadata; empty if it
// does.
func (c *Contents) Problem(want Key) string {
	actual, known := c.Metadata.Key()
	actual.Hour, actual.Beside, actual.SHA8 = want.Hour, want.Beside, want.SHA8
	count := want.LastSeq - want.FirstSeq + 1
	switch m := c.Metadata; {
	case c.problem != "":
		return c.problem
	case c.HasMetadata() && (!known || actual != want):
		return fmt.Sprintf("it is another object under this name: log %s, run %s, seq %d to %d", m.LogID, m.Run, m.FirstSeq, m.LastSeq)
	case c.records != count:
		return fmt.Sprintf("it has %d records, but its name promises %d", c.records, count)
	case c.HasMetadata() && (c.records != m.Records || c.RawBytes != m.RawBytes):
		return fmt.Sprintf("its lines are not those of its metadata: %d records of %d bytes, not %d of %d", c.records, c.RawBytes, m.Records, m.RawBytes)
	case c.HasMetadata() && c.sha256 != m.SHA256:
		return "its lines are not those of its metadata: SHA-256 " + c.sha256 + ", not " + m.SHA256
	}
	return ""
}

// OverlapsIDs reports whether the first id of the object is not above the last id of the object
// before.
func (c *Contents) OverlapsIDs(before *Contents) bool {
	return c.firstID != textID{} && before.lastID != textID{} && bytes.Compare(before.lastID[:], c.firstID[:]) >= 0
}

// lineScanner counts lines and checks their ids.
type lineScanner struct {
	records     uint64
	first, last textID // of version 7
	problem     string
	head        [64]byte // the start of a line that arrived in parts
	headLen     int
	inLine      bool
	lineBytes   int // of that line so far
}

func (l *lineScanner) scan(p []byte) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end >= 0 && !l.inLine {
			l.checkLine(p[:end])
			p = p[end+1:]
			continue
		}
		part := p
		if end >= 0 {
			part = p[:end]
		}
		l.headLen += copy(l.head[l.headLen:], part)
		l.inLine = true
		l.lineBytes += len(part)
		if end < 0 {
			return
		}
		l.checkLine(l.head[:l.headLen])
		l.headLen, l.inLine, l.lineBytes = 0, false, 0
		p = p[end+1:]
	}
}

// checkLine checks the start of a line.
func (l *lineScanner) checkLine(head []byte) {
	const version = idStart + len("01234567-0123-") // of the UUID
	l.records++
	if len(head) <= idEnd || string(head[:idStart]) != `{"id":"` || head[idEnd] != '"' {
		if l.problem == "" {
			l.problem = fmt.Sprintf("line %d is not a record", l.records)
		}
		return
	}
	if head[version] != '7' { // derived from an Idempotency-Key, so in no order
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
