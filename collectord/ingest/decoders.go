package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	maxDecoders = 4       // at work at once, and no more than there are processors
	maxWindow   = 8 << 20 // of zstd (RFC 9659)
)

// decoders are those of compressed bodies: few at once, since each holds a
// window, and used again.
type decoders struct {
	most  int // bytes that a body may decode to
	slots chan struct{}
	idle  [2]sync.Pool // by coding
}

func newDecoders(most int) *decoders {
	return &decoders{most: most, slots: make(chan struct{}, min(maxDecoders, runtime.GOMAXPROCS(0)))}
}

// decoder decodes one body at a time.
type decoder struct {
	io.Reader
	coding coding
	gzip   *gzip.Reader
	zstd   *zstd.Decoder
}

// take waits for a decoder, which does not depend on any client: bodies are
// decoded once they have arrived.
func (d *decoders) take(c coding) *decoder {
	d.slots <- struct{}{}
	if idle, ok := d.idle[c-gzipped].Get().(*decoder); ok {
		return idle
	}
	fresh := &decoder{coding: c}
	if c == zstandard {
		// One goroutine, and no more memory than the window; the options are ours.
		fresh.zstd, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(uint64(max(d.most, maxWindow))))
		fresh.Reader = fresh.zstd
	}
	return fresh
}

func (d *decoders) give(used *decoder) {
	_ = used.reset(nil) // lets go of the body
	d.idle[used.coding-gzipped].Put(used)
	<-d.slots
}

// source is what a decoder reads from.
type source interface {
	io.Reader
	io.ByteReader
}

func (d *decoder) reset(from source) (err error) {
	switch {
	case d.coding == zstandard && from == nil:
		return d.zstd.Reset(nil)
	case d.coding == zstandard:
		return d.zstd.Reset(from)
	case d.gzip == nil && from == nil:
		return nil
	case from == nil:
		from = bytes.NewReader(nil)
	case d.gzip == nil:
		d.gzip, err = gzip.NewReader(from)
		d.Reader = d.gzip
		return err
	}
	return d.gzip.Reset(from)
}

// tooLarge reports whether err says that the frame declares more than is taken.
func (d *decoder) tooLarge(err error) bool { return errors.Is(err, zstd.ErrDecoderSizeExceeded) }

// explain says what is wrong with a body, in words of ours.
func (d *decoder) explain(err error) string {
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
