package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const standardError = 2

// ownStandardError returns a descriptor for the log, and makes standard error
// non-blocking for traces of the Go runtime (of a panic, or of the watchdog's SIGABRT).
// A process whose log has no reader must still be able to end. If duplication fails,
// the log shares standard error.
func ownStandardError() fdWriter {
	// Skip the numbers of passed sockets: a missing one could otherwise be confused
	// with this descriptor.
	passed, _ := strconv.Atoi(os.Getenv("LISTEN_FDS")) // 0 if it is not a number
	fd, err := unix.FcntlInt(standardError, unix.F_DUPFD_CLOEXEC, firstPassed+max(0, passed))
	if err != nil {
		return standardError
	}
	var st unix.Stat_t
	if err := unix.Fstat(standardError, &st); err != nil {
		return fdWriter(fd)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		// O_NONBLOCK applies to the open file, which a shell may share. A pipe can be
		// opened again; a socket can't.
		own, err := unix.Open("/proc/self/fd/2", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		_ = unix.Dup3(own, standardError, 0)
		_ = unix.Close(own)
	case unix.S_IFSOCK:
		// Only processes of this service share the journal's socket.
		_ = unix.SetNonblock(standardError, true)
	}
	return fdWriter(fd)
}

// isTerminal reports whether fd is a character device, such as a terminal.
func isTerminal(fd fdWriter) bool {
	var st unix.Stat_t
	return unix.Fstat(int(fd), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR
}
