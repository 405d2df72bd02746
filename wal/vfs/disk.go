package vfs

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Disk adds operations of several calls to a file system.
type Disk struct{ FS }

// OSDisk returns the operating system's file system.
func OSDisk() Disk { return Disk{OS{}} }

// OpenRegular is Open, but also returns ErrNotRegular if the file's directory is a
// symbolic link.
func (d Disk) OpenRegular(path string) (File, error) {
	if info, err := d.Stat(filepath.Dir(path)); err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: ErrNotRegular}
	}
	return d.Open(path)
}

// maxSmallFile is the max number of bytes that ReadFile returns.
const maxSmallFile = 4 << 10

// ReadFile returns the first 4 KiB of a file. The content of LOG and of a loss note ends
// before that.
func (d Disk) ReadFile(path string) ([]byte, error) {
	file, err := d.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := make([]byte, maxSmallFile)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// TryCreate creates and deletes a file, and returns the error of the creation.
func (d Disk) TryCreate(path string) error {
	f, err := d.Create(path)
	if errors.Is(err, fs.ErrExist) { // left by an interrupted attempt
		return nil
	}
	if err == nil {
		_ = errors.Join(f.Close(), d.Remove(path)) // nothing was written
	}
	return err
}

// Finish syncs and closes a file after a write, whose error is err. It returns all three
// errors joined.
func Finish(f File, err error) error { return errors.Join(err, f.Sync(), f.Close()) }

// SyncFile makes the content of a file durable.
func (d Disk) SyncFile(path string) error {
	f, err := d.OpenWritable(path)
	if err != nil {
		return err
	}
	return Finish(f, nil)
}

// Truncate sets the size of a file. It does not sync.
func (d Disk) Truncate(path string, size int64) error {
	f, err := d.OpenWritable(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// RenameNew is Rename, but does not replace a directory, not even an empty one.
func (d Disk) RenameNew(from, to string) error {
	if info, err := d.Stat(to); err == nil && info.IsDir() {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EEXIST}
	}
	return d.Rename(from, to)
}

// Rename is rename(2), with two differences. It returns nil if the rename took effect
// although rename(2) returned an error, because another attempt would not find the old
// name. If the file system can't rename a directory (EXDEV), it moves the directory's
// files.
func (d Disk) Rename(from, to string) error {
	err := d.FS.Rename(from, to)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, errFrom := d.Stat(from)
	if _, errTo := d.Stat(to); errors.Is(errFrom, fs.ErrNotExist) && errTo == nil {
		return nil
	}
	if errors.Is(err, syscall.EXDEV) && errFrom == nil && info.IsDir() {
		return d.moveDir(from, to, err)
	}
	return err
}

// RenameDurably is RenameNew within one directory, followed by a sync of that directory.
func (d Disk) RenameDurably(from, to string) error {
	if err := d.RenameNew(from, to); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(to))
}

// WriteFileDurably is WriteDurably for content in memory.
func (d Disk) WriteFileDurably(path string, content []byte) error {
	return d.WriteDurably(path, func(f File) error {
		_, err := f.WriteAt(content, 0)
		return err
	})
}

// WriteDurably replaces a file as a whole or not at all, durably. write writes the
// content to a temporary file, which is then renamed to path.
func (d Disk) WriteDurably(path string, write func(File) error) error {
	temp := path + ".tmp"
	f, err := d.Create(temp)
	if errors.Is(err, fs.ErrExist) { // left by an interrupted write
		if err := d.Remove(temp); err != nil {
			return err
		}
		f, err = d.Create(temp)
	}
	if err != nil {
		return err
	}
	if err = Finish(f, write(f)); err != nil {
		_ = d.Remove(temp) // it takes space, and another sync could return success without having written it
		return err
	}
	return d.RenameDurably(temp, path)
}

// MkdirDurably makes a directory and its missing parents, each with a durable name. It
// returns nil if the directory exists.
func (d Disk) MkdirDurably(dir string) error {
	parent := filepath.Dir(dir)
	err := d.Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := d.MkdirDurably(parent); err != nil {
			return err
		}
		err = d.Mkdir(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) { // if it is not a directory, the next call fails
		return err
	}
	return d.SyncDir(parent)
}

// IsSameFile reports whether two paths name the same file. A file that does not exist is the
// same as no other.
func (d Disk) IsSameFile(a, b string) (bool, error) {
	left, errLeft := d.Stat(a)
	right, errRight := d.Stat(b)
	for _, err := range []error{errLeft, errRight} {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return false, nil
		}
	}
	if err := cmp.Or(errLeft, errRight); err != nil {
		return false, err
	}
	return SameFile(left, right), nil
}

// SizeOf returns the allocated bytes of a file, divided by the number of its names.
func SizeOf(info fs.FileInfo) int64 { return allocated(info) / max(1, LinkCount(info)) }

// allocated returns the size of a file in bytes without its holes.
func allocated(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Blksize == 0 {
		return info.Size()
	}
	return min(info.Size(), st.Blocks*512)
}

// IsLink reports whether a result of Stat describes a symbolic link.
func IsLink(info fs.FileInfo) bool { return info.Mode()&fs.ModeSymlink != 0 }

// SizeBelow adds up SizeOf for the regular files below dir. It ignores files and
// directories that it can't read.
func (d Disk) SizeBelow(dir string) (total int64) {
	entries, err := d.List(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		switch {
		case e.IsDir():
			total += d.SizeBelow(filepath.Join(dir, e.Name()))
		case e.Type().IsRegular():
			if info, err := e.Info(); err == nil {
				total += SizeOf(info)
			}
		}
	}
	return total
}
