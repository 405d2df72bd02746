package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const standardError = 2

// ownStandardError returns a descriptor for the log, and leaves standard error to
// the Go runtime, whose traces (of a panic, or of the watchdog's SIGABRT) it
// keeps from blocking: a process whose log is not read has to end all the same.
// Where that can't be done both are as they were.
func ownStandardError() descriptor {
	// It is no number at which a socket is passed: one that is not there after all
	// would be taken for this.
	passed, _ := strconv.Atoi(os.Getenv("LISTEN_FDS")) // 0 if it is no number
	fd, err := unix.FcntlInt(standardError, unix.F_DUPFD_CLOEXEC, firstPassed+max(0, passed))
	if err != nil {
		return standardError
	}
	var st unix.Stat_t
	if err := unix.Fstat(standardError, &st); err != nil {
		return descriptor(fd)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		// O_NONBLOCK belongs to the open file, which a shell shares. A pipe can be
		// opened again, a socket can't.
		own, err := unix.Open("/proc/self/fd/2", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		_ = unix.Dup3(own, standardError, 0)
		_ = unix.Close(own)
	case unix.S_IFSOCK:
		// The journal's is shared with this service's own processes only.
		_ = unix.SetNonblock(standardError, true)
	}
	return descriptor(fd)
}

// isTerminal reports whether people read what is written.
func isTerminal(fd descriptor) bool {
	var st unix.Stat_t
	return unix.Fstat(int(fd), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR
}
