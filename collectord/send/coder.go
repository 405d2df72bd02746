package send

import (
	"bytes"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// coder appends what src is when compressed. It keeps its memory.
type coder func(dst, src []byte) []byte

// newCoder makes one for Gzip or Zstd, and none for "". Both compress fast rather
// than well: a client on the host of the daemon takes its processor away.
func newCoder(coding string) coder {
	switch coding {
	case Gzip:
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			return nil // the level is valid
		}
		return func(dst, src []byte) []byte {
			out := bytes.NewBuffer(dst)
			w.Reset(out)
			_, _ = w.Write(src) // a buffer takes everything
			_ = w.Close()
			return out.Bytes()
		}
	case Zstd:
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
		if err != nil {
			return nil // the options are valid
		}
		return func(dst, src []byte) []byte { return w.EncodeAll(src, dst) }
	}
	return nil
}
