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

// A lock consists of two locks by flock(2): of the directory, and of a file in it. The lock
// of the directory remains if someone deletes the file. The file holds the process id, and
// earlier versions lock only the file. A process that has locked the directory also holds a
// read lock of it (fcntl(2), F_OFD_SETLK). Other processes can query that one without taking
// a lock, and without permission to open the file.

// lock is held until it is closed.
type lock struct{ file, dir *os.File }

func (l lock) Close() error {
	defer l.dir.Close() // last, because the next process begins with the directory
	return l.file.Close()
}

// Lock implements FS. It writes the id of this process to the file.
func (OS) Lock(path string) (io.Closer, error) {
	dir, errDir := lockDir(filepath.Dir(path))
	if errors.Is(errDir, syscall.EWOULDBLOCK) {
		return nil, errors.Join(errDir, dir.Close())
	}
	f, err := openLock(path)
	if err != nil && canMoveAside(err) {
		if err = moveAside(path, err, errDir); err == nil {
			f, err = openLock(path)
		}
	}
	if err == nil {
		if err = flock(f); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		_ = dir.Close() // nothing was written
		return nil, err
	}
	// The id only informs people, so Lock ignores an error of writing it.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return lock{f, dir}, nil
}

// lockDir locks a directory. The error wraps EWOULDBLOCK if another process has locked it. A
// process of an earlier version has only the read lock. After any other error the lock of the
// file has to do. dir is nil if the directory can't be opened.
func lockDir(path string) (dir *os.File, err error) {
	if dir, err = os.Open(path); err != nil {
		return nil, err
	}
	if err = flock(dir); err == nil {
		err = unix.FcntlFlock(dir.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	if err == nil {
		err = heldByOthers(dir)
	}
	return dir, err
}

// flock takes an exclusive lock of a file or directory, without waiting.
func flock(f *os.File) error {
	return pathError("flock", f.Name(), syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
}

// openLock opens the file of a lock, and creates it if there is none. A file that can
// only be opened for reading can be locked, too.
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

// canMoveAside reports whether an error of openLock means that this process can't lock the
// file even while no other process holds it.
func canMoveAside(err error) bool {
	return errors.Is(err, ErrNotRegular) || errors.Is(err, fs.ErrPermission) || IsUnreadable(err)
}

// moveAside renames a lock file that this process can't open; why is the error of opening
// it. errDir is the error of lockDir. With such an error other processes may be invisible, so
// a regular file is not moved.
func moveAside(path string, why, errDir error) error {
	info, err := os.Lstat(path)
	if err != nil { // the file does not exist, and could not be created
		return errors.Join(why, fmt.Errorf("the user who runs this must be able to write to %s", filepath.Dir(path)))
	}
	if errDir != nil && info.Mode().IsRegular() {
		return fmt.Errorf("%w; whether another process has locked it can't be determined: delete it while no other collectord runs (%w)", why, errDir)
	}
	if err := os.Rename(path, fmt.Sprintf("%s.aside-%016x", path, time.Now().UnixNano())); err != nil {
		return errors.Join(why, fmt.Errorf("it can't be moved away either (see to its owner): %w", err))
	}
	return nil
}

// heldByOthers returns an error if another process holds the lock of the directory, or if
// that can't be determined. In the first case the error wraps EWOULDBLOCK.
func heldByOthers(dir *os.File) error {
	held := unix.Flock_t{Type: unix.F_WRLCK} // any other lock conflicts with a write lock
	if err := unix.FcntlFlock(dir.Fd(), unix.F_OFD_GETLK, &held); err != nil {
		return &fs.PathError{Op: "fcntl", Path: dir.Name(), Err: err}
	}
	if held.Type != unix.F_UNLCK {
		return &fs.PathError{Op: "fcntl", Path: dir.Name(), Err: syscall.EWOULDBLOCK}
	}
	return nil
}

// IsLocked reports whether a process holds a lock in the directory at path. It takes no lock
// itself.
func IsLocked(path string) bool {
	dir, err := os.Open(path)
	if err != nil {
		return false
	}
	defer dir.Close()
	return errors.Is(heldByOthers(dir), syscall.EWOULDBLOCK)
}
