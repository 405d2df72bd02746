package main

import (
	"time"

	"golang.org/x/sys/unix"
)

const standardError = 2

// traceTimeout is how long a socket that is not read may hold up a piece of a
// trace, of which there are hundreds.
const traceTimeout = 10 * time.Millisecond

// ownStandardError returns a descriptor for the log, and leaves standard error to
// the Go runtime, whose traces (of a panic, or of the watchdog's SIGABRT) it
// keeps from blocking: a process whose log is not read has to end all the same.
// Where that can't be done both are as they were.
func ownStandardError() descriptor {
	fd, err := unix.FcntlInt(standardError, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return standardError
	}
	var st unix.Stat_t
	if err := unix.Fstat(standardError, &st); err != nil {
		return descriptor(fd)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		// O_NONBLOCK belongs to the open file, which others share. A pipe can be
		// opened again.
		own, err := unix.Open("/proc/self/fd/2", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		_ = unix.Dup3(own, standardError, 0)
		_ = unix.Close(own)
	case unix.S_IFSOCK: // the journal's
		timeout := unix.NsecToTimeval(traceTimeout.Nanoseconds())
		_ = unix.SetsockoptTimeval(standardError, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
	}
	return descriptor(fd)
}

// isTerminal reports whether people read what is written.
func isTerminal(fd descriptor) bool {
	var st unix.Stat_t
	return unix.Fstat(int(fd), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR
}
