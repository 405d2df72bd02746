package segment

import (
	"errors"
	"fmt"
	"path/filepath"

	"collectord/wal/vfs"
)

// EntryWriter appends entries to the file of a segment: the length of each, as
// FORMAT.md describes it, then its bytes. After an error it is not used again.
type EntryWriter interface {
	// Write appends the entry buf[EntryRoom:]. It may overwrite what is before that,
	// and keeps no reference to buf.
	Write(buf []byte) error
	// Copies reports whether it keeps a copy of everything that it has written.
	Copies() bool
	Close() error
}

// NewEntryWriter creates the file of a segment in an empty directory and writes the
// first entry, like Write.
type NewEntryWriter func(dir string, first []byte) (EntryWriter, error)

// Writer writes one segment. One goroutine at a time uses it, but another one may call
// Fill.
//
// The log library creates the file and appends to it; it never opens, reads or repairs
// one. The Writer syncs through a descriptor of its own, and writes zeros through a
// third.
type Writer struct {
	log   EntryWriter
	file  vfs.File
	bytes int64 // written by the underlying log
	zeros zeros // behind bytes
	err   error // of the write that failed: nothing may follow it
}

// Create creates a segment that holds only its header, durable under the name dir, with
// zeros and reserved space ahead. newLog is nil for NewLogWriter; a simulated disk
// needs another.
func Create(disk vfs.Disk, dir string, header Header, ahead Ahead, newLog NewEntryWriter) (w *Writer, err error) {
	if newLog == nil {
		newLog = NewLogWriter
	}
	if err := disk.Mkdir(dir); err != nil {
		return nil, err
	}
	first := header.append(make([]byte, EntryRoom))
	w = &Writer{bytes: entrySize(first)}
	w.zeros.init(w.bytes)
	if w.log, err = newLog(dir, first); err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	path := filepath.Join(dir, FileName)
	if w.file, err = disk.OpenWritable(path); err == nil {
		w.zeros.file, err = disk.OpenWritable(path)
	}
	if err != nil {
		w.Abandon()
		return nil, err
	}
	if err = ahead.take(w); err == nil {
		err = w.file.Sync()
	}
	if err == nil {
		err = errors.Join(disk.SyncDir(dir), disk.SyncDir(filepath.Dir(dir)))
	}
	if err != nil {
		w.Abandon()
		return nil, fmt.Errorf("write segment header: %w", err)
	}
	return w, nil
}

// Filled is how far the file is written, with records or zeros.
func (w *Writer) Filled() int64 { return w.zeros.filledTo() }

// Bytes is how far the file is written with records.
func (w *Writer) Bytes() int64 { return w.bytes }

// entrySize is the number of bytes that the entry in buf takes in the file.
func entrySize(buf []byte) int64 {
	n := len(buf) - EntryRoom
	return int64(uvarintLen(uint64(n)) + n)
}

// Copies reports whether memory holds a copy of everything that was written.
func (w *Writer) Copies() bool { return w.log != nil && w.log.Copies() }

// Limit is the size at which the segment is to be sealed that should have size bytes:
// at most MaxCopied if memory holds a copy.
func (w *Writer) Limit(size int64) int64 {
	if w.Copies() {
		return min(size, MaxCopied)
	}
	return size
}

// Append writes the frame that PutFrame has completed in buf, without copying it. After
// an error the segment must be abandoned; every later call returns that error.
func (w *Writer) Append(buf []byte) error {
	if w.err == nil {
		w.zeros.claim(w.bytes + entrySize(buf))
		w.err = w.log.Write(buf)
	}
	if w.err == nil {
		w.bytes += entrySize(buf)
	}
	return w.err
}

// Sync makes everything written durable. After an error the segment must be abandoned:
// another sync can return success without having written anything. So can this one
// after a failed sync of zeros, whose error it therefore returns, too.
func (w *Writer) Sync() error { return errors.Join(w.file.Datasync(), w.zeros.failure()) }

// Trim cuts off the zeros behind the last record.
func (w *Writer) Trim() error {
	w.zeros.finish()
	return w.file.Truncate(w.bytes)
}

// CutTo cuts the file to size bytes, durably. Nothing may be written after it.
func (w *Writer) CutTo(size int64) error {
	w.zeros.finish()
	return errors.Join(w.file.Truncate(size), w.file.Sync())
}

// Close closes the files of a sealed segment.
func (w *Writer) Close() error {
	w.zeros.end()
	return errors.Join(w.log.Close(), w.file.Close(), w.zeros.file.Close())
}

// Abandon closes the files without waiting for the disk, after a failure or where the
// segment is not needed. The log library's writer is not closed, since that would sync
// once more.
func (w *Writer) Abandon() {
	w.log = nil
	w.zeros.end() // without a wait: the disk may hang
	for _, f := range []vfs.File{w.file, w.zeros.file} {
		if f != nil {
			f.Close()
		}
	}
}
