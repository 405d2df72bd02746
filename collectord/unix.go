package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// socketAccess is the access to a unix socket.
type socketAccess struct {
	mode  fs.FileMode
	group int // a gid, or -1 for the group of the process
}

// listenUnix listens on a unix socket. It replaces an abandoned socket, but neither a
// socket in use nor another file.
func listenUnix(path string, access socketAccess) (ln net.Listener, err error) {
	// Without the lock, two processes that start at once could replace each other's
	// socket.
	unlock, err := lockDirectory(filepath.Dir(path))
	if err != nil {
		return nil, withInUseAdvice(fmt.Errorf("unix socket %s: %w", path, err), "stop that process, or move the socket to another directory")
	}
	defer unlock()
	if err := removeAbandoned(path); err != nil {
		return nil, fmt.Errorf("unix socket %s: %w", path, err)
	}
	// The umask closes the socket to other users until grant sets its access. No other
	// goroutine creates files at this time.
	mask := syscall.Umask(0o177)
	ln, err = net.Listen("unix", path)
	syscall.Umask(mask)
	if err != nil {
		return nil, err
	}
	if err = access.grant(path); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// grant sets the mode and the group of the socket at path. It does not follow symbolic
// links.
func (access socketAccess) grant(path string) (err error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.Join(err, fmt.Errorf("%s was replaced: it is not a socket", path))
	}
	if access.group >= 0 {
		err = os.NewSyscallError("fchownat", unix.Fchownat(fd, "", -1, access.group, unix.AT_EMPTY_PATH))
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%s can't be given to group %d: %s is not a member (http.socket_group): %w", path, access.group, userName(os.Geteuid()), err)
	}
	return errors.Join(err, os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), access.mode))
}

// lockDirectory locks a directory for a moment. A directory that a running collectord has as its
// data_dir stays locked, so lockDirectory does not wait for it.
func lockDirectory(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { d.Close() }, nil
		}
		if process, held, _ := wal.HolderOf(dir); held {
			d.Close()
			return nil, &wal.InUseError{Dir: dir, Process: process}
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || tries == 500 { // the holder needs far less than these 5 s
			d.Close()
			return nil, os.NewSyscallError("flock", err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// removeAbandoned removes the socket at path if no process listens on it.
func removeAbandoned(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of this name that is not a socket")
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		return errors.New("another process listens on it")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("another process may listen on it: %w", err) // such as one with a full backlog
}
