package vfs

import (
	"errors"
	"syscall"
)

// ErrNotRegular means that a path leads to something other than a regular file, or
// through a symbolic link.
var ErrNotRegular = errors.New("not a regular file, or behind a symbolic link (put the file in its place)")

// IsFull reports whether err means that a disk or a quota has no space left.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// IsFullOrIO reports whether err means that a disk or a quota has no space left, or is an
// I/O error (EIO). Such an error can pass without intervention.
func IsFullOrIO(err error) bool { return IsFull(err) || errors.Is(err, syscall.EIO) }

// IsUnreadable reports whether err means that the disk can't return the stored bytes, or
// that they do not match the file system's own checksum.
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
