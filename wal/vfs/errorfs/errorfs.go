// Package errorfs wraps a file system for tests that make a call fail, block, or be
// counted.
package errorfs

import (
	"io/fs"

	"collectord/wal/vfs"
)

// FS wraps a file system, and calls those of its functions that are set.
type FS struct {
	vfs.FS
	// Before is called before each call that opens for writing, changes, syncs or lists
	// something, except Datasync. op is the name of the system call. If Before returns an
	// error, the call returns that error and has no effect.
	Before func(op, path string) error
	// ReadAt and Datasync replace the methods of files.
	ReadAt   func(f vfs.File, p []byte, off int64) (int, error)
	Datasync func(f vfs.File) error
	// FreeBytes replaces the method Free.
	FreeBytes func(dir string) (int64, error)
}

func (e FS) before(op, path string) error {
	if e.Before == nil {
		return nil
	}
	if err := e.Before(op, path); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

func (e FS) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return file{f, e}, nil
}

// Open implements vfs.FS.
func (e FS) Open(path string) (vfs.File, error) { return e.file(e.FS.Open(path)) }

// OpenWritable implements vfs.FS.
func (e FS) OpenWritable(path string) (vfs.File, error) {
	if err := e.before("open", path); err != nil {
		return nil, err
	}
	return e.file(e.FS.OpenWritable(path))
}

// Create implements vfs.FS.
func (e FS) Create(path string) (vfs.File, error) {
	if err := e.before("open", path); err != nil {
		return nil, err
	}
	return e.file(e.FS.Create(path))
}

// Mkdir implements vfs.FS.
func (e FS) Mkdir(path string) error {
	if err := e.before("mkdir", path); err != nil {
		return err
	}
	return e.FS.Mkdir(path)
}

// Rename implements vfs.FS.
func (e FS) Rename(from, to string) error {
	if err := e.before("rename", from); err != nil {
		return err
	}
	return e.FS.Rename(from, to)
}

// Link implements vfs.FS.
func (e FS) Link(from, to string) error {
	if err := e.before("link", to); err != nil {
		return err
	}
	return e.FS.Link(from, to)
}

// Remove implements vfs.FS.
func (e FS) Remove(path string) error {
	if err := e.before("unlink", path); err != nil {
		return err
	}
	return e.FS.Remove(path)
}

// RemoveIn implements vfs.FS.
func (e FS) RemoveIn(dir, name string) error {
	if err := e.before("unlink", dir+"/"+name); err != nil {
		return err
	}
	return e.FS.RemoveIn(dir, name)
}

// RemoveDir implements vfs.FS.
func (e FS) RemoveDir(path string) error {
	if err := e.before("rmdir", path); err != nil {
		return err
	}
	return e.FS.RemoveDir(path)
}

// List implements vfs.FS.
func (e FS) List(dir string) ([]fs.DirEntry, error) {
	if err := e.before("readdir", dir); err != nil {
		return nil, err
	}
	return e.FS.List(dir)
}

// SyncDir implements vfs.FS.
func (e FS) SyncDir(dir string) error {
	if err := e.before("fsync", dir); err != nil {
		return err
	}
	return e.FS.SyncDir(dir)
}

// Free implements vfs.FS.
func (e FS) Free(dir string) (int64, error) {
	if e.FreeBytes != nil {
		return e.FreeBytes(dir)
	}
	return e.FS.Free(dir)
}

type file struct {
	vfs.File
	fs FS
}

// NextData implements the interface that vfs.NextData looks for.
func (f file) NextData(off int64) int64 { return vfs.NextData(f.File, off) }

func (f file) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.ReadAt != nil {
		return f.fs.ReadAt(f.File, p, off)
	}
	return f.File.ReadAt(p, off)
}

func (f file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.before("write", f.Name()); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f file) Truncate(size int64) error {
	if err := f.fs.before("truncate", f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f file) Sync() error {
	if err := f.fs.before("fsync", f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f file) Datasync() error {
	if f.fs.Datasync != nil {
		return f.fs.Datasync(f.File)
	}
	return f.File.Datasync()
}
