package vfs

import (
	"errors"
	"io"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// NextData returns the next offset from off on at which there may be anything but
// zeros: a file can have holes, where it takes no room. It is off for what does not
// know its holes, and beyond any size where only a hole is left.
func NextData(r io.ReaderAt, off int64) int64 {
	if f, ok := r.(interface{ NextData(off int64) int64 }); ok {
		return f.NextData(off)
	}
	return off
}

// NextData is for the function of that name.
func (f file) NextData(off int64) int64 {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return math.MaxInt64
	case err != nil: // the file system does not tell
		return off
	}
	return max(off, at)
}
