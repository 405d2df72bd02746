package vfs

import (
	"errors"
	"io"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// NextData returns the lowest offset from off on at which there may be other bytes than
// zeros. It skips holes of a file, which take no space; it returns off if r can't find
// them, and an offset beyond the file's size if only a hole is left.
func NextData(r io.ReaderAt, off int64) int64 {
	if f, ok := r.(interface{ NextData(off int64) int64 }); ok {
		return f.NextData(off)
	}
	return off
}

// NextData implements what the function NextData asks for.
func (f file) NextData(off int64) int64 {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return math.MaxInt64
	case err != nil: // the file system can't
		return off
	}
	return max(off, at)
}
