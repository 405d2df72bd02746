package wal

import (
	"fmt"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// hangError is of a call that a disk has not answered for CommitTimeout.
type hangError struct {
	call vfs.Call
	took time.Duration
}

func (e *hangError) Error() string {
	return fmt.Sprintf("the disk has not answered for %v: %s", e.took.Round(time.Second), e.call)
}

// hanging returns an error while a call of the disk has been under way for longer
// than CommitTimeout. It touches no disk itself.
func (b *base) hanging() *hangError {
	call, found := b.calls.Oldest()
	if took := time.Since(call.Since); found && took >= b.limits.Load().CommitTimeout {
		return &hangError{call, took}
	}
	return nil
}

// await returns the answer of something that touches the disk, or a hangError as soon
// as a call of the disk has hung for CommitTimeout.
func (b *base) await(answer <-chan error) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-answer:
			return err
		case <-tick.C:
			if hung := b.hanging(); hung != nil {
				return hung
			}
		}
	}
}

// watchedWriters has the calls of the underlying log known, too, which do not go
// through the log's file system.
func watchedWriters(calls *vfs.Calls, next segment.NewEntryWriter) segment.NewEntryWriter {
	if next == nil {
		next = segment.NewLogWriter
	}
	return func(dir string, first []byte) (segment.EntryWriter, error) {
		defer calls.End(calls.Begin("create a segment's file in", dir))
		w, err := next(dir, first)
		if err != nil {
			return nil, err
		}
		return watchedWriter{w, calls, dir}, nil
	}
}

type watchedWriter struct {
	segment.EntryWriter
	calls *vfs.Calls
	dir   string // as it was created
}

func (w watchedWriter) Write(buf []byte) error {
	defer w.calls.End(w.calls.Begin("write to a segment's file, created in", w.dir))
	return w.EntryWriter.Write(buf)
}
