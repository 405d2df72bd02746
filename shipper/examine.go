package shipper

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

// examiner reads objects and tells what is in them. One can be used for many,
// one after the other.
type examiner struct {
	zstd *zstd.Decoder
	tail tailKeeper
	hash hash.Hash
	buf  []byte
}

// contents is what an examiner found in an object.
type contents struct {
	records     uint64
	bytes       int64
	sha256      string
	first, last lineID   // of version 7; zero: none
	metadata    Metadata // of the trailer
	hasMetadata bool
	problem     string // empty: all is well in itself
	truncated   bool
}

// lineID is a UUID as text. Those of version 7 sort as they were drawn.
type lineID [36]byte

// A line begins with its id.
const (
	idAt    = len(`{"id":"`)
	idEnd   = idAt + len(lineID{})
	version = idAt + len("01234567-0123-") // of the UUID
)

func newExaminer() (*examiner, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return &examiner{zstd: dec, hash: sha256.New(), buf: make([]byte, 128<<10)}, nil
}

func (e *examiner) close() { e.zstd.Close() }

// object reads an object of a storage.
func (e *examiner) object(ctx context.Context, store Store, key string) (c contents, err error) {
	body, err := store.Open(ctx, key)
	if err != nil {
		return c, err
	}
	defer body.Close()
	if c, err = e.examine(body); err != nil || c.hasMetadata || c.problem != "" {
		return c, err
	}
	m, err := store.Stat(ctx, key)
	if err != nil {
		return c, err
	}
	c.metadata, c.hasMetadata = m.Metadata, m.SHA256 != ""
	return c, nil
}

// examine reads an object to its end. It returns an error only when the storage
// failed; what is wrong with the object is among its contents.
func (e *examiner) examine(body io.Reader) (c contents, err error) {
	in := &faultKeeper{in: body}
	e.tail.reset(in)
	e.hash.Reset()
	var lines lineScanner
	err = e.zstd.Reset(&e.tail)
	for err == nil {
		var n int
		n, err = e.zstd.Read(e.buf)
		e.hash.Write(e.buf[:n])
		c.bytes += int64(n)
		lines.scan(e.buf[:n])
	}
	if !errors.Is(err, io.EOF) { // what it goes on with tells whether its end is cut off
		_, _ = io.Copy(io.Discard, &e.tail)
	}
	if in.err != nil {
		return c, in.err
	}
	end := e.tail.last()
	var noTrailer error
	c.metadata, noTrailer = readTrailer(bytes.NewReader(end), int64(len(end)))
	c.hasMetadata = noTrailer == nil
	c.records, c.first, c.last, c.problem = lines.records, lines.first, lines.last, lines.problem
	c.sha256 = hex.EncodeToString(e.hash.Sum(nil))
	switch {
	case errors.Is(err, io.EOF) && e.tail.size == 0:
		c.truncated, c.problem = true, "it is empty"
	case errors.Is(err, io.ErrUnexpectedEOF) && !c.hasMetadata:
		c.truncated, c.problem = true, fmt.Sprintf("its end is cut off after %d records", c.records)
	case !errors.Is(err, io.EOF):
		c.problem = fmt.Sprintf("it does not check out after %d records: %v", c.records, err)
	case lines.inLine:
		c.truncated, c.problem = true, fmt.Sprintf("its last line is cut off after %d records", c.records)
	}
	return c, nil
}

// lineScanner counts lines and looks at their ids.
type lineScanner struct {
	records     uint64
	first, last lineID
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
	l.records++
	if len(head) <= idEnd || string(head[:idAt]) != `{"id":"` || head[idEnd] != '"' {
		if l.problem == "" {
			l.problem = fmt.Sprintf("line %d is no record", l.records)
		}
		return
	}
	if head[version] != '7' { // derived from an Idempotency-Key: in no order
		return
	}
	id := head[idAt:idEnd]
	if l.last == (lineID{}) {
		copy(l.first[:], id)
	} else if bytes.Compare(l.last[:], id) >= 0 && l.problem == "" {
		l.problem = fmt.Sprintf("the id of line %d is not above the one before", l.records)
	}
	copy(l.last[:], id)
}

// tailKeeper keeps the end of what is read through it, where the metadata is.
type tailKeeper struct {
	in   io.Reader
	size int64
	kept []byte
}

// keptTail is more than the trailer of any object of ours.
const keptTail = 4 << 10

func (t *tailKeeper) reset(in io.Reader) {
	t.in, t.size, t.kept = in, 0, t.kept[:0]
}

func (t *tailKeeper) Read(p []byte) (int, error) {
	n, err := t.in.Read(p)
	t.size += int64(n)
	if n >= keptTail {
		t.kept = append(t.kept[:0], p[n-keptTail:n]...)
	} else {
		if len(t.kept)+n > 4*keptTail {
			t.kept = append(t.kept[:0], t.last()...)
		}
		t.kept = append(t.kept, p[:n]...)
	}
	return n, err
}

func (t *tailKeeper) last() []byte { return t.kept[max(0, len(t.kept)-keptTail):] }
