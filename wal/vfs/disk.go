package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Disk is a file system with operations that take several calls.
type Disk struct{ FS }

// OSDisk is the operating system's file system.
func OSDisk() Disk { return Disk{OS{}} }

// OpenRegular is Open that also returns ErrNotRegular if the file's directory is a
// symbolic link.
func (d Disk) OpenRegular(path string) (File, error) {
	if info, err := d.Stat(filepath.Dir(path)); err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: ErrNotRegular}
	}
	return d.Open(path)
}

// maxSmallFile is the most bytes that ReadFile returns.
const maxSmallFile = 4 << 10

// ReadFile returns the first 4 KiB of a file, which is all of LOG or of a loss note.
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

// Finish syncs and closes a file after writing, and returns their errors with that of
// writing, err.
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

// RenameNew is Rename that refuses to replace a directory, even an empty one.
func (d Disk) RenameNew(from, to string) error {
	if info, err := d.Stat(to); err == nil && info.IsDir() {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EEXIST}
	}
	return d.Rename(from, to)
}

// Rename is rename(2), with two differences. It returns nil if the rename took effect
// although rename(2) returned an error: another attempt would not find the old name.
// And it moves the files of a directory that the file system does not rename.
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

// RenameDurably is RenameNew within one directory, followed by a sync of that.
func (d Disk) RenameDurably(from, to string) error {
	if err := d.RenameNew(from, to); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(to))
}

// WriteFileDurably is WriteDurably of a content.
func (d Disk) WriteFileDurably(path string, content []byte) error {
	return d.WriteDurably(path, func(f File) error {
		_, err := f.WriteAt(content, 0)
		return err
	})
}

// WriteDurably has write write a file by way of a temporary one, so that the file is
// replaced as a whole or not at all, and what has its name is durable.
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

// MkdirDurably makes a directory and the missing ones above it, each with a durable
// name. A directory that exists is no error.
func (d Disk) MkdirDurably(dir string) error {
	parent := filepath.Dir(dir)
	err := d.Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := d.MkdirDurably(parent); err != nil {
			return err
		}
		err = d.Mkdir(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) { // if it exists as something else, the next call fails
		return err
	}
	return d.SyncDir(parent)
}

// HasOtherNames reports whether a file has other names (hard links): then it must not
// be cut.
func (d Disk) HasOtherNames(path string) bool {
	info, err := d.Stat(path)
	return err == nil && Names(info) > 1
}

// IsSameFile reports whether two paths are names of one file.
func (d Disk) IsSameFile(a, b string) bool {
	left, errLeft := d.Stat(a)
	right, errRight := d.Stat(b)
	return errLeft == nil && errRight == nil && SameFile(left, right)
}

// SizeOf is the share of a file's size that each of its names counts for. Of a file
// with holes it counts what is allocated.
func SizeOf(info fs.FileInfo) int64 { return allocated(info) / max(1, Names(info)) }

// allocated is the size of a file, or the allocated bytes if it has holes.
func allocated(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Blksize == 0 {
		return info.Size()
	}
	return min(info.Size(), st.Blocks*512)
}

// IsLink reports whether a result of Stat is of a symbolic link.
func IsLink(info fs.FileInfo) bool { return info.Mode()&fs.ModeSymlink != 0 }

// SizeBelow adds up SizeOf the regular files below dir. What can't be read or does not
// exist counts nothing.
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
