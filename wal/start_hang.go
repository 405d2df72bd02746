package wal

import (
	"fmt"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// hangError reports a call that the disk has not answered for CommitTimeout.
type hangError struct {
	call vfs.Call
	took time.Duration
}

func (e *hangError) Error() string {
	return fmt.Sprintf("the disk has not answered for %v: %s", e.took.Round(time.Second), e.call)
}

// checkHang returns an error if a call of the disk has been running for CommitTimeout or
// longer. It does not access a disk.
func (b *base) checkHang() *hangError {
	call, found := b.calls.Oldest()
	if took := time.Since(call.Since); found && took >= b.limits.Load().CommitTimeout {
		return &hangError{call, took}
	}
	return nil
}

// await returns the result of a goroutine that uses the disk, or a hangError once a call of
// the disk has hung for CommitTimeout.
func (b *base) await(result <-chan error) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-result:
			return err
		case <-tick.C:
			if hung := b.checkHang(); hung != nil {
				return hung
			}
		}
	}
}

// trackedWriters registers the calls of the underlying log with calls, because they bypass
// the log's file system.
func trackedWriters(calls *vfs.Calls, next segment.NewEntryWriter) segment.NewEntryWriter {
	if next == nil {
		next = segment.NewLogWriter
	}
	return func(dir string, first []byte) (segment.EntryWriter, error) {
		defer calls.End(calls.Begin("create a segment's file in", dir))
		w, err := next(dir, first)
		if err != nil {
			return nil, err
		}
		return trackedWriter{w, calls, dir}, nil
	}
}

type trackedWriter struct {
	segment.EntryWriter
	calls *vfs.Calls
	dir   string // its path at creation
}

func (w trackedWriter) Write(buf []byte) error {
	defer w.calls.End(w.calls.Begin("write to a segment's file, created in", w.dir))
	return w.EntryWriter.Write(buf)
}
