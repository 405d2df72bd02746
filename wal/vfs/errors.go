package vfs

import (
	"errors"
	"syscall"
)

// ErrNotRegular is the error for what has the name of a file and is not a regular file.
var ErrNotRegular = errors.New("not a regular file, or behind a symbolic link (put the file in its place)")

// IsFull reports whether err says that a disk or a quota has no space left.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// IsFullOrIO reports whether err says that a disk or a quota is full, or is an I/O
// error: it may be over by itself.
func IsFullOrIO(err error) bool { return IsFull(err) || errors.Is(err, syscall.EIO) }

// IsUnreadable reports whether err says that the disk can't return what is stored, or
// that it does not fit the file system's own checksum.
func IsUnreadable(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EIO, syscall.ENODATA, syscall.EBADMSG, syscall.EUCLEAN, syscall.EILSEQ, syscall.EREMOTEIO,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
