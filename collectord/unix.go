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
)

// socketAccess is who may use a unix socket.
type socketAccess struct {
	mode  fs.FileMode
	group int // a gid, or -1 for that of the process
}

// listenUnix replaces the socket that an ended process left, and nothing else:
// neither one that is listened on, nor any other file.
func listenUnix(path string, access socketAccess) (ln net.Listener, err error) {
	// Two that start at once would both find an old socket, and the second would
	// replace that of the first.
	unlock, err := lockDirectory(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("unix socket %s: %w", path, err)
	}
	defer unlock()
	if err := removeAbandoned(path); err != nil {
		return nil, fmt.Errorf("unix socket %s: %w", path, err)
	}
	// It is nobody else's until it is whose it should be. Nothing runs beside this
	// that creates files.
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

// grant changes the socket at path, and nothing that a link of that name leads to.
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
		err = fmt.Errorf("%s can't be given to group %d, of which %s is not a member (http.socket_group): %w", path, access.group, userName(os.Geteuid()), err)
	}
	return errors.Join(err, os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), access.mode))
}

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
		if !errors.Is(err, unix.EWOULDBLOCK) || tries == 500 { // it is held for no longer than this takes
			d.Close()
			return nil, os.NewSyscallError("flock", err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// removeAbandoned removes a socket that nobody listens on.
func removeAbandoned(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of this name that is no socket")
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		return errors.New("another process listens on it")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("another process may listen on it: %w", err) // such as one that is busy
}
