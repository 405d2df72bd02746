package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// disk makes the calls that change the log directory. before is asked ahead of
// each, by tests that let one fail or look at what was done so far; it may be nil.
type disk struct {
	before func(op, path string) error
}

func (d disk) ask(op, path string) error {
	if d.before == nil {
		return nil
	}
	if err := d.before(op, path); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// syncDir makes the names in dir durable.
func (d disk) syncDir(dir string) error {
	if err := d.ask("fsync", dir); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (d disk) readDir(dir string) ([]fs.DirEntry, error) {
	if err := d.ask("readdir", dir); err != nil {
		return nil, err
	}
	return os.ReadDir(dir)
}

// open opens a file to write to it.
func (d disk) open(path string, flag int) (*os.File, error) {
	if err := d.ask("open", path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o640)
}

// finish syncs and closes a file, whatever err says of what was written to it.
func (d disk) finish(f *os.File, err error) error {
	if err == nil {
		err = d.ask("write", f.Name())
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (d disk) rename(from, to string) error {
	if err := d.ask("rename", from); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// replace is rename, but takes the place of an empty directory.
func (d disk) replace(from, to string) error {
	if err := d.ask("rename", from); err != nil {
		return err
	}
	return syscall.Rename(from, to)
}

func (d disk) link(from, to string) error {
	if err := d.ask("link", to); err != nil {
		return err
	}
	return os.Link(from, to)
}

func (d disk) unlink(path string) error {
	if err := d.ask("unlink", path); err != nil {
		return err
	}
	return os.Remove(path)
}

func (d disk) mkdir(path string) error {
	if err := d.ask("mkdir", path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o750)
}

func (d disk) truncate(path string, size int64) error {
	if err := d.ask("truncate", path); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

// renameDurably renames within one directory and makes the new name durable.
func (d disk) renameDurably(from, to string) error {
	if err := d.rename(from, to); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(to))
}

// writeFileDurably replaces path as a whole, or not at all.
func (d disk) writeFileDurably(path string, content []byte) error {
	temp := path + ".tmp"
	f, err := d.open(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = d.finish(f, err); err != nil {
		return err
	}
	return d.renameDurably(temp, path)
}

// makeDirDurably is MkdirAll for one level whose parent may be missing too.
func (d disk) makeDirDurably(dir string) error {
	if err := d.ask("mkdir", dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(dir))
}

// errNotRegular is of what has the name of a file and is something else.
var errNotRegular = errors.New("it is not a regular file, or behind a symbolic link: put the file in its place")

// openRegular opens a file to read it. A link, or anything that is not a regular
// file, is an error, and so is a segment's directory that is a link.
func openRegular(path string) (*os.File, error) {
	if info, err := os.Lstat(filepath.Dir(path)); err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: errNotRegular}
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// isFull reports whether err says that a disk, or a quota, has no room.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// isTrouble reports whether err may pass by itself, or once somebody frees room.
func isTrouble(err error) bool { return isFull(err) || errors.Is(err, syscall.EIO) }

// lockDir takes the lock of a data directory. It is held until the file is
// closed or the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another collectord (process %s): stop it, or give this one a data_dir of its own",
				dir, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Who holds it is a courtesy to people; failing to say so is no failure.
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

// freeBytes is what the file system of dir can still take from this process.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// hasOtherNames reports whether a file is found elsewhere too, so that it must not
// be cut.
func hasOtherNames(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}

// sizeOnDisk is the share of a file's size that each of its names counts for.
func sizeOnDisk(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		return info.Size() / int64(st.Nlink)
	}
	return info.Size()
}

// sizeOfFiles adds up the regular files below dir. What vanishes meanwhile, and
// a dir that does not exist, counts nothing.
func sizeOfFiles(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // vanished, or unreadable: not ours to count
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += sizeOnDisk(info)
		}
		return nil
	})
	return total
}
