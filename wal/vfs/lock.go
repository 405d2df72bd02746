package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A lock is a file that is locked by flock(2). Beside it, whoever has it, or is about
// to, holds a read lock of its directory, as fcntl(2) makes it for an open file: that
// can be asked for without being let into the file. So a file that this process may
// not open, of another user perhaps, is moved aside where nobody holds it.

// lock is held until it is closed.
type lock struct{ file, dir *os.File }

func (l lock) Close() error {
	_ = l.dir.Close() // nothing was written
	return l.file.Close()
}

// Lock implements FS. The file then holds the id of this process.
func (OS) Lock(path string) (io.Closer, error) {
	dir, unshared := lockShared(filepath.Dir(path))
	f, err := openLock(path)
	if err != nil && mayMakeWay(err) {
		if err = moveAside(path, dir, err, unshared); err == nil {
			f, err = openLock(path)
		}
	}
	if err == nil {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			err = errors.Join(&fs.PathError{Op: "flock", Path: path, Err: err}, f.Close())
		}
	}
	if err != nil {
		_ = dir.Close() // nothing was written
		return nil, err
	}
	// The id is a courtesy to people: failing to write it is no failure.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return lock{f, dir}, nil
}

// lockShared takes the lock of a directory that others may have, too. dir is nil where
// it can't be opened.
func lockShared(path string) (dir *os.File, err error) {
	if dir, err = os.Open(path); err == nil {
		err = unix.FcntlFlock(dir.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	return dir, err
}

// openLock makes the file of a lock. One that may only be read can be locked, too.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		if readable, errRead := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); errRead == nil {
			f, err = readable, nil
		}
	}
	var info fs.FileInfo
	if err == nil {
		if info, err = f.Stat(); err == nil && info.Mode().IsRegular() {
			return f, nil
		}
		err = errors.Join(err, f.Close())
	} else {
		info, _ = os.Lstat(path)
	}
	if info != nil && !info.Mode().IsRegular() {
		err = errors.Join(&fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}, err)
	}
	return nil, err
}

// mayMakeWay reports whether a lock's file is of no use, whoever waits.
func mayMakeWay(err error) bool {
	return errors.Is(err, ErrNotRegular) || errors.Is(err, fs.ErrPermission) || IsUnreadable(err)
}

// moveAside renames what is in the place of a lock, and can't be locked. Another process
// that holds it has the lock of the directory. One that comes in between is seen
// afterwards; it has opened what is put back then, or has made a new file. unshared is
// why this process does not have the lock of the directory; then others may not, either.
func moveAside(path string, dir *os.File, why, unshared error) error {
	info, err := os.Lstat(path)
	if err != nil { // nothing is there, and none could be made
		return errors.Join(why, fmt.Errorf("the user who runs this must be able to write to %s", filepath.Dir(path)))
	}
	if unshared != nil && info.Mode().IsRegular() {
		return fmt.Errorf("%w; another process may have locked it, and that can't be found out: delete it while no other runs (%w)", why, unshared)
	}
	if err := heldByOthers(path, dir); err != nil && unshared == nil {
		return errors.Join(err, why)
	}
	aside := fmt.Sprintf("%s.aside-%016x", path, time.Now().UnixNano())
	if err := os.Rename(path, aside); err != nil {
		return errors.Join(why, fmt.Errorf("it can't be moved away either (see to its owner): %w", err))
	}
	if err := heldByOthers(path, dir); err != nil && unshared == nil {
		return errors.Join(err, unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE))
	}
	return nil
}

// heldByOthers returns an error if another process holds the lock of the directory, or
// that can't be found out.
func heldByOthers(path string, dir *os.File) error {
	held := unix.Flock_t{Type: unix.F_WRLCK} // with which any other is in conflict
	if err := unix.FcntlFlock(dir.Fd(), unix.F_OFD_GETLK, &held); err != nil {
		return &fs.PathError{Op: "fcntl", Path: dir.Name(), Err: err}
	}
	if held.Type != unix.F_UNLCK {
		return &fs.PathError{Op: "fcntl", Path: path, Err: syscall.EWOULDBLOCK}
	}
	return nil
}

// IsLocked reports whether a process holds the lock of that path. It takes none.
func IsLocked(path string) bool {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return false
	}
	defer dir.Close()
	return errors.Is(heldByOthers(path, dir), syscall.EWOULDBLOCK)
}
