package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"time"
)

// Calls wraps a file system and records which calls are in progress, to name the call
// that a disk does not complete. It costs two short locks a call, and no allocation.
type Calls struct {
	FS

	mu         sync.Mutex // guards the field below
	inProgress []Call     // a slot without an Op is free
}

// Call is a call that has not returned.
type Call struct {
	Op, Path string // Op is the name of the system call
	Since    time.Time
}

func (c Call) String() string { return fmt.Sprintf("%s %q", c.Op, c.Path) }

// NewCalls returns a Calls that wraps files.
func NewCalls(files FS) *Calls { return &Calls{FS: files} }

// Oldest returns the call that has been in progress for longest. found is false if there
// is none.
func (c *Calls) Oldest() (oldest Call, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.inProgress {
		if call.Op != "" && (!found || call.Since.Before(oldest.Since)) {
			oldest, found = call, true
		}
	}
	return oldest, found
}

// Begin records a call until End is called with slot. It is exported for calls that do
// not go through c.
func (c *Calls) Begin(op, path string) (slot int) {
	call := Call{op, path, time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.inProgress {
		if c.inProgress[i].Op == "" {
			c.inProgress[i] = call
			return i
		}
	}
	c.inProgress = append(c.inProgress, call)
	return len(c.inProgress) - 1
}

// End removes the call that Begin has recorded in slot.
func (c *Calls) End(slot int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inProgress[slot] = Call{}
}

// Open implements FS.
func (c *Calls) Open(path string) (File, error) {
	defer c.End(c.Begin("open", path))
	return c.file(c.FS.Open(path))
}

// OpenWritable implements FS.
func (c *Calls) OpenWritable(path string) (File, error) {
	defer c.End(c.Begin("open", path))
	return c.file(c.FS.OpenWritable(path))
}

// Create implements FS.
func (c *Calls) Create(path string) (File, error) {
	defer c.End(c.Begin("open", path))
	return c.file(c.FS.Create(path))
}

// Mkdir implements FS.
func (c *Calls) Mkdir(path string) error {
	defer c.End(c.Begin("mkdir", path))
	return c.FS.Mkdir(path)
}

// Rename implements FS.
func (c *Calls) Rename(from, to string) error {
	defer c.End(c.Begin("rename", from))
	return c.FS.Rename(from, to)
}

// Link implements FS.
func (c *Calls) Link(from, to string) error {
	defer c.End(c.Begin("link", to))
	return c.FS.Link(from, to)
}

// Remove implements FS.
func (c *Calls) Remove(path string) error {
	defer c.End(c.Begin("unlink", path))
	return c.FS.Remove(path)
}

// RemoveIn implements FS.
func (c *Calls) RemoveIn(dir, name string) error {
	defer c.End(c.Begin("unlink", filepath.Join(dir, name)))
	return c.FS.RemoveIn(dir, name)
}

// RemoveDir implements FS.
func (c *Calls) RemoveDir(path string) error {
	defer c.End(c.Begin("rmdir", path))
	return c.FS.RemoveDir(path)
}

// List implements FS.
func (c *Calls) List(dir string) ([]fs.DirEntry, error) {
	defer c.End(c.Begin("readdir", dir))
	return c.FS.List(dir)
}

// Stat implements FS.
func (c *Calls) Stat(path string) (fs.FileInfo, error) {
	defer c.End(c.Begin("lstat", path))
	return c.FS.Stat(path)
}

// SyncDir implements FS.
func (c *Calls) SyncDir(dir string) error {
	defer c.End(c.Begin("fsync", dir))
	return c.FS.SyncDir(dir)
}

// Lock implements FS.
func (c *Calls) Lock(path string) (io.Closer, error) {
	defer c.End(c.Begin("flock", path))
	return c.FS.Lock(path)
}

// Free implements FS.
func (c *Calls) Free(dir string) (int64, error) {
	defer c.End(c.Begin("statfs", dir))
	return c.FS.Free(dir)
}

func (c *Calls) file(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return calledFile{f, c}, nil
}

// calledFile is a file whose calls are recorded.
type calledFile struct {
	File
	calls *Calls
}

func (f calledFile) ReadAt(p []byte, off int64) (int, error) {
	defer f.calls.End(f.calls.Begin("pread", f.Name()))
	return f.File.ReadAt(p, off)
}

func (f calledFile) WriteAt(p []byte, off int64) (int, error) {
	defer f.calls.End(f.calls.Begin("pwrite", f.Name()))
	return f.File.WriteAt(p, off)
}

func (f calledFile) Close() error {
	defer f.calls.End(f.calls.Begin("close", f.Name()))
	return f.File.Close()
}

func (f calledFile) Stat() (fs.FileInfo, error) {
	defer f.calls.End(f.calls.Begin("fstat", f.Name()))
	return f.File.Stat()
}

func (f calledFile) Truncate(size int64) error {
	defer f.calls.End(f.calls.Begin("ftruncate", f.Name()))
	return f.File.Truncate(size)
}

func (f calledFile) Sync() error {
	defer f.calls.End(f.calls.Begin("fsync", f.Name()))
	return f.File.Sync()
}

func (f calledFile) Datasync() error {
	defer f.calls.End(f.calls.Begin("fdatasync", f.Name()))
	return f.File.Datasync()
}

// NextData implements the interface that the function NextData looks for.
func (f calledFile) NextData(off int64) int64 {
	defer f.calls.End(f.calls.Begin("lseek", f.Name()))
	return NextData(f.File, off)
}

// Reserve implements Reserver.
func (f calledFile) Reserve(size int64) error {
	defer f.calls.End(f.calls.Begin("fallocate", f.Name()))
	if r, ok := f.File.(Reserver); ok {
		return r.Reserve(size)
	}
	return nil
}
