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

// OS is the operating system's file system.
type OS struct{}

// Open implements FS.
func (OS) Open(path string) (File, error) { return open(path, os.O_RDONLY) }

// OpenWritable implements FS.
func (OS) OpenWritable(path string) (File, error) { return open(path, os.O_RDWR) }

// open never blocks: with O_NONBLOCK it does not wait for the other end of a FIFO.
func open(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return file{f}, nil
}

// Create implements FS.
func (OS) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// Mkdir implements FS.
func (OS) Mkdir(path string) error { return os.Mkdir(path, 0o750) }

// Rename implements FS. os.Rename would not replace an empty directory.
func (OS) Rename(from, to string) error {
	for {
		err := syscall.Rename(from, to)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return nil
	}
}

// Link implements FS.
func (OS) Link(from, to string) error { return os.Link(from, to) }

// Remove implements FS. os.Remove would delete a directory, too.
func (OS) Remove(path string) error { return pathError("unlink", path, unix.Unlink(path)) }

// RemoveIn implements FS.
func (OS) RemoveIn(dir, name string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("open", dir, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return pathError("unlink", filepath.Join(dir, name), unix.Unlinkat(fd, name, 0))
}

// RemoveDir implements FS.
func (OS) RemoveDir(path string) error { return pathError("rmdir", path, unix.Rmdir(path)) }

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// SameFile reports whether two results of Stat are of the same file.
func SameFile(a, b fs.FileInfo) bool {
	left, ok := a.Sys().(*syscall.Stat_t)
	right, both := b.Sys().(*syscall.Stat_t)
	return ok && both && left.Dev == right.Dev && left.Ino == right.Ino
}

// Names returns the number of a file's names (hard links), from a result of Stat.
func Names(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(st.Nlink)
	}
	return 1
}

// List implements FS.
func (OS) List(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }

// Stat implements FS.
func (OS) Stat(path string) (fs.FileInfo, error) { return os.Lstat(path) }

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock implements FS, by flock(2). It writes the process id into the file. What is in
// the place of the file and is not regular is renamed.
func (OS) Lock(path string) (io.Closer, error) {
	f, err := openLock(path)
	if errors.Is(err, ErrNotRegular) {
		if err = moveAside(path); err == nil {
			f, err = openLock(path)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "flock", Path: path, Err: err}, f.Close())
	}
	// The id is for people, and an error of writing it is ignored.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if errors.Is(err, syscall.EROFS) { // a log on a read-only file system can still be read and shipped
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
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

// moveAside renames what is in the place of a lock. It locks the directory meanwhile,
// since another process may have created the lock by now.
func moveAside(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return &fs.PathError{Op: "flock", Path: dir.Name(), Err: err}
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return os.Rename(path, fmt.Sprintf("%s.aside-%016x", path, time.Now().UnixNano()))
	}
	return nil
}

// Free implements FS.
func (OS) Free(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

type file struct{ *os.File }

func (f file) Datasync() error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		return nil
	}
}

// Reserve implements Reserver.
func (f file) Reserve(size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return nil
		}
		return pathError("fallocate", f.Name(), err)
	}
}
