package send

import (
	"bytes"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// coder appends src, compressed, to dst. It reuses its internal memory.
type coder func(dst, src []byte) []byte

// newCoder returns a coder for Gzip or Zstd, and nil for "". Both use their fastest level,
// since a client on the daemon's host competes with it for CPU.
func newCoder(coding string) coder {
	switch coding {
	case Gzip:
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			return nil // unreachable: the level is valid
		}
		return func(dst, src []byte) []byte {
			out := bytes.NewBuffer(dst)
			w.Reset(out)
			_, _ = w.Write(src) // a bytes.Buffer never fails
			_ = w.Close()
			return out.Bytes()
		}
	case Zstd:
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
		if err != nil {
			return nil // unreachable: the options are valid
		}
		return func(dst, src []byte) []byte { return w.EncodeAll(src, dst) }
	}
	return nil
}
