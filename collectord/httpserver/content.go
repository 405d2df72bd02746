package httpserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"collectord/collectord/usage"
)

// mediaType is the format of a body by its Content-Type.
type mediaType int

const (
	jsonContent   mediaType = iota // one JSON object, or an array of them
	objectContent                  // one JSON object
	arrayContent                   // a JSON array of objects
	linesContent                   // NDJSON: one object per line
	formContent                    // a form, which curl -d declares by default
	otherContent
)

// mediaTypeOf parses a Content-Type (RFC 9110, section 8.3). A body without one is JSON.
//
//	application/json                       object or array
//	application/x-ndjson, …/ndjson,        lines
//	  text/x-ndjson, application/jsonl,
//	  …/json-lines, …/x-jsonlines
//	application/cloudevents-batch+json     array
//	application/*+json                     object (RFC 6839, section 3.1)
//	application/x-www-form-urlencoded      a form, which is rejected with advice
//	anything else, or not in UTF-8         other
func mediaTypeOf(contentType []byte) mediaType {
	switch string(contentType) { // common values, without allocating
	case "", "application/json", "application/json; charset=utf-8", "application/json;charset=utf-8", "application/json; charset=UTF-8", "application/json;charset=UTF-8":
		return jsonContent
	case "application/x-ndjson":
		return linesContent
	}
	media, params, err := mime.ParseMediaType(string(contentType))
	if media == "application/x-www-form-urlencoded" {
		return formContent
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8":
	default:
		return otherContent
	}
	name, application := strings.CutPrefix(media, "application/")
	kind, suffixed := strings.CutSuffix(name, "+json")
	switch {
	case err != nil:
		return otherContent
	case media == "application/json":
		return jsonContent
	case media == "text/x-ndjson":
		return linesContent
	case !application:
		return otherContent
	case name == "x-ndjson", name == "ndjson", name == "jsonl", name == "json-lines", name == "x-jsonlines":
		return linesContent
	case name == "cloudevents-batch+json":
		return arrayContent
	case suffixed && kind != "":
		return objectContent
	}
	return otherContent
}

const (
	maxDecoders = 4       // max bodies decoded at once, also limited by the number of processors
	maxWindow   = 8 << 20 // bytes of zstd's window (RFC 9659)

	// zstdBlock is the max bytes of a decoded zstd block. zstdSlack is the max bytes that
	// the decoder writes beyond the limit before it fails.
	zstdBlock = 128 << 10
	zstdSlack = zstdBlock + 64
)

// decoders decode compressed bodies, a few at once, and are reused. No decoder waits for
// a client, since a body is decoded after it has arrived.
//
// A gzip decoder has a window of 32 KiB. A zstd decoder would have a window of 8 MiB, or
// of the whole body if the frame is a single segment. So zstd decodes into the body
// itself and uses the body as the window.
type decoders struct {
	slots      chan struct{}
	gzip       chan *gzip.Reader // idle readers
	zstd       *zstd.Decoder     // safe for concurrent use
	capLimited *zstd.Decoder     // like zstd, but writes only up to the capacity of the given slice
}

func newDecoders(maxDecodedBytes int) *decoders {
	n := min(maxDecoders, runtime.GOMAXPROCS(0))
	d := &decoders{slots: make(chan struct{}, n), gzip: make(chan *gzip.Reader, n)}
	options := []zstd.DOption{
		zstd.WithDecoderConcurrency(n), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(uint64(max(maxDecodedBytes, maxWindow))),
	}
	d.zstd, _ = zstd.NewReader(nil, options...) // constant options are valid
	d.capLimited, _ = zstd.NewReader(nil, append(options, zstd.WithDecodeAllCapLimit(true))...)
	return d
}

func (d *decoders) acquire() { d.slots <- struct{}{} }
func (d *decoders) release() { <-d.slots }

// source is the input of a gzip reader. Because it has ReadByte, the gzip reader reads no
// byte beyond the current member.
type source interface {
	io.Reader
	io.ByteReader
}

// gzipMembers reads all gzip members of a body (RFC 1952, section 2.2). It ignores zeros
// after the last one, which pad tape blocks, as gzip(1) does.
type gzipMembers struct {
	member *gzip.Reader
	sent   []byte
	from   *bytes.Reader // reads sent, no further than the end of the current member
}

func (g *gzipMembers) Read(p []byte) (int, error) {
	g.member.Multistream(false)
	n, err := g.member.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	rest := g.sent[len(g.sent)-g.from.Len():]
	if len(bytes.TrimLeft(rest, "\x00")) == 0 {
		return n, io.EOF
	}
	return n, g.member.Reset(g.from)
}

// getGzip returns a reader that decodes from.
func (d *decoders) getGzip(from source) (*gzip.Reader, error) {
	select {
	case r := <-d.gzip:
		if err := r.Reset(from); err != nil {
			d.gzip <- r
			return nil, err
		}
		return r, nil
	default:
		return gzip.NewReader(from)
	}
}

// putGzip keeps a reader for reuse. The reader refers to its last body until it is reused.
func (d *decoders) putGzip(r *gzip.Reader) { d.gzip <- r }

// zstdSizeBound returns an upper bound of the decoded size. It is mostly exact, because
// frames contain their size or consist of full blocks (RFC 8878, section 3.1.1). For a
// damaged body it bounds the part before the damage.
func zstdSizeBound(sent []byte) (bound int) {
	for len(sent) > 0 {
		var h zstd.Header
		if h.Decode(sent) != nil {
			return bound
		}
		if h.Skippable {
			sent = sent[min(len(sent), h.HeaderSize+int(h.SkippableSize)):]
			continue
		}
		blocks := 0
		sent = sent[min(len(sent), h.HeaderSize):]
		for last := false; !last && len(sent) >= 3; {
			head := int(sent[0]) | int(binary.LittleEndian.Uint16(sent[1:]))<<8
			size := head >> 3
			last = head&1 != 0
			encoded := size
			switch head >> 1 & 3 {
			case 1: // an RLE block: one byte, repeated
				encoded = 1
			case 2: // a compressed block
				size = zstdBlock
			}
			blocks += min(size, zstdBlock)
			sent = sent[min(len(sent), 3+encoded):]
		}
		if h.HasCheckSum {
			sent = sent[min(len(sent), 4):]
		}
		if h.HasFCS {
			blocks = int(min(h.FrameContentSize, uint64(blocks)))
		}
		bound += blocks
	}
	return bound
}

// explain returns why a compressed body can't be decoded, without the library's text.
func explain(err error) string {
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return fmt.Sprintf("a zstd window beyond %d bytes (RFC 9659)", maxWindow)
	case errors.Is(err, zstd.ErrUnknownDictionary):
		return "a zstd dictionary that is not known"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the compressed body ends too soon"
	}
	return "the compressed body is damaged"
}

// splitters keeps splitters of usages for reuse. Splitting a large usage with many names
// needs several times its size, so only a few large bodies are split at a time. No
// splitter waits for a client or the disk, since the body has arrived.
type splitters struct {
	small sync.Pool // holds *usage.Splitter
	large chan *usage.Splitter
}

func newSplitters() *splitters {
	s := &splitters{large: make(chan *usage.Splitter, runtime.GOMAXPROCS(0))}
	s.small.New = func() any { return new(usage.Splitter) }
	for range cap(s.large) {
		s.large <- new(usage.Splitter)
	}
	return s
}

// get returns a splitter for a body of size bytes.
func (s *splitters) get(size int) *usage.Splitter {
	if size > smallBodyBytes {
		return <-s.large
	}
	return s.small.Get().(*usage.Splitter) //nolint:forcetypeassert // the pool contains only this type
}

// put returns a splitter for reuse and clears its references to the body.
func (s *splitters) put(used *usage.Splitter, size int) {
	used.Reset(nil, usage.Object, usage.Limits{})
	if size > smallBodyBytes {
		s.large <- used
		return
	}
	s.small.Put(used)
}
