package wal

import (
	"time"

	"collectord/wal/vfs"
)

// WithClock and WithDatasync are for tests that need other packages, too.
func (o Options) WithClock(clock func() time.Time) Options {
	o.clock = clock
	return o
}

// WithDatasync replaces fdatasync(2).
func (o Options) WithDatasync(datasync func(fd int) error) Options {
	o.datasync = datasync
	return o
}

// WithReads has read do what reads files of the log.
func (o Options) WithReads(read func(file vfs.File, p []byte, off int64) (int, error)) Options {
	o.readAt = read
	return o
}

// WithDisk has before asked ahead of each call that changes the log directory.
// An error is that call's.
func (o Options) WithDisk(before func(op, path string) error) Options {
	o.disk.before = before
	return o
}
