package httpserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	maxDecoders = 4       // at work at once, and no more than there are processors
	maxWindow   = 8 << 20 // of zstd (RFC 9659)

	// zstdBlock is the most that a block of zstd holds, and zstdSlack what the
	// decoder may write beyond the limit before it sees that it is passed.
	zstdBlock = 128 << 10
	zstdSlack = zstdBlock + 64
)

// decoders are those of compressed bodies: few at once, and used again. None
// waits for a client: bodies are decoded once they have arrived.
//
// With gzip a decoder has a window of 32 KiB. With zstd it would be one of 8 MiB,
// or of a whole body where the frame is one segment; so those decode into the
// body itself, in which they look back.
type decoders struct {
	slots chan struct{}
	gzip  chan *gzip.Reader // idle ones
	zstd  *zstd.Decoder     // takes several at once
	tight *zstd.Decoder     // the same, which goes no further than the capacity it is given
}

func newDecoders(most int) *decoders {
	n := min(maxDecoders, runtime.GOMAXPROCS(0))
	d := &decoders{slots: make(chan struct{}, n), gzip: make(chan *gzip.Reader, n)}
	options := []zstd.DOption{
		zstd.WithDecoderConcurrency(n), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(uint64(max(most, maxWindow))),
	}
	d.zstd, _ = zstd.NewReader(nil, options...) // the options are ours
	d.tight, _ = zstd.NewReader(nil, append(options, zstd.WithDecodeAllCapLimit(true))...)
	return d
}

func (d *decoders) enter() { d.slots <- struct{}{} }
func (d *decoders) leave() { <-d.slots }

// source is what a decoder of gzip reads from.
type source interface {
	io.Reader
	io.ByteReader
}

// gzipMembers reads one member of gzip after another (RFC 1952, section 2.2). Zeros
// behind the last one are padding, as of tape blocks, and skipped as gzip(1) does.
type gzipMembers struct {
	member *gzip.Reader
	sent   []byte
	from   *bytes.Reader // of sent: it is read no further than the member goes
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

// takeGzip returns a reader of what from holds.
func (d *decoders) takeGzip(from source) (*gzip.Reader, error) {
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

// giveGzip keeps a reader for others. The body it has read it forgets with the
// next.
func (d *decoders) giveGzip(r *gzip.Reader) { d.gzip <- r }

// zstdBound is the most that frames of zstd decode to: exactly that, mostly, since
// they tell, or are of blocks that are full but for the last (RFC 8878, section
// 3.1.1). Of what is damaged it is a bound of what comes before.
func zstdBound(sent []byte) (most int) {
	for len(sent) > 0 {
		var h zstd.Header
		if h.Decode(sent) != nil {
			return most
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
			took := size
			switch head >> 1 & 3 {
			case 1: // one byte, repeated
				took = 1
			case 2: // compressed
				size = zstdBlock
			}
			blocks += min(size, zstdBlock)
			sent = sent[min(len(sent), 3+took):]
		}
		if h.HasCheckSum {
			sent = sent[min(len(sent), 4):]
		}
		if h.HasFCS {
			blocks = int(min(h.FrameContentSize, uint64(blocks)))
		}
		most += blocks
	}
	return most
}

// explain says what is wrong with a compressed body, in words of ours.
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
