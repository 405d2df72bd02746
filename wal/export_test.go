package wal

import (
	"time"

	"collectord/wal/vfs"
	"collectord/wal/vfs/errorfs"
)

// WithClock replaces the wall clock.
func (o Options) WithClock(clock func() time.Time) Options {
	o.clock = clock
	return o
}

// errorFS returns the file system between the log and the operating system.
func (o Options) errorFS() errorfs.FS {
	if e, ok := o.files.(errorfs.FS); ok {
		return e
	}
	return errorfs.FS{FS: vfs.OS{}}
}

// WithDatasync replaces fdatasync(2).
func (o Options) WithDatasync(datasync func(vfs.File) error) Options {
	e := o.errorFS()
	e.Datasync = datasync
	o.files = e
	return o
}

// WithReads replaces ReadAt of the log's files.
func (o Options) WithReads(read func(file vfs.File, p []byte, off int64) (int, error)) Options {
	e := o.errorFS()
	e.ReadAt = read
	o.files = e
	return o
}

// WithFree replaces statfs(2).
func (o Options) WithFree(free func(dir string) (int64, error)) Options {
	e := o.errorFS()
	e.FreeBytes = free
	o.files = e
	return o
}

// WithDisk calls before ahead of each call that changes the log directory. If before
// returns an error, the call returns it and has no effect.
func (o Options) WithDisk(before func(op, path string) error) Options {
	e := o.errorFS()
	e.Before = before
	o.files = e
	return o
}

// isBusy reports whether the committer waits for the disk with a commit.
func (w *diskWait) isBusy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.commit != nil
}
