package vfs

import (
	"errors"
	"io"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// NextData returns the lowest offset from off on at which a byte may differ from zero. It
// skips holes of a file, which take no space. It returns off if r can't find holes, and
// an offset beyond the file's size if nothing but a hole follows.
func NextData(r io.ReaderAt, off int64) int64 {
	if f, ok := r.(interface{ NextData(off int64) int64 }); ok {
		return f.NextData(off)
	}
	return off
}

// NextData implements the interface that the function NextData looks for.
func (f file) NextData(off int64) int64 {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return math.MaxInt64
	case err != nil: // the file system can't find holes
		return off
	}
	return max(off, at)
}
