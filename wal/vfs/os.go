package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system.
type OS struct{}

// Open implements FS.
func (OS) Open(path string) (File, error) { return open(path, os.O_RDONLY) }

// OpenWritable implements FS.
func (OS) OpenWritable(path string) (File, error) { return open(path, os.O_RDWR) }

// open opens a regular file. O_NONBLOCK keeps it from waiting for the other end of a
// FIFO.
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

// SameFile reports whether two results of Stat describe the same file.
func SameFile(a, b fs.FileInfo) bool {
	left, ok := a.Sys().(*syscall.Stat_t)
	right, both := b.Sys().(*syscall.Stat_t)
	return ok && both && left.Dev == right.Dev && left.Ino == right.Ino
}

// LinkCount returns the number of names (hard links) of a file, from a result of Stat.
func LinkCount(info fs.FileInfo) int64 {
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
