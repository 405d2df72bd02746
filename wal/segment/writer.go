package segment

import (
	"errors"
	"fmt"
	"path/filepath"

	"collectord/wal/vfs"
)

// EntryWriter appends entries to the file of a segment: to the length of each, as
// FORMAT.md has it, and its bytes. After an error it is dropped.
type EntryWriter interface {
	// Write appends the entry that begins in buf at EntryRoom. It may use what is
	// before that, and keeps nothing of buf.
	Write(buf []byte) error
	// Copies reports whether it keeps a copy of all that it has written.
	Copies() bool
	Close() error
}

// NewEntryWriter makes the file of a segment in an empty directory and writes the
// first entry, as Write would.
type NewEntryWriter func(dir string, first []byte) (EntryWriter, error)

// Writer writes one segment. Only one goroutine at a time uses it, but for Fill.
//
// The underlying log creates the file and appends to it; it is never asked to
// open, read or repair one. Durability is ours, through a second descriptor of
// the same file. Zeros are written through a third.
type Writer struct {
	log   EntryWriter
	file  vfs.File
	bytes int64 // written by the underlying log
	zeros zeros // behind them
	err   error // of the write that failed: nothing may follow it in the file
}

// Create makes a segment that holds nothing but its header, durable under the name
// dir. newLog is nil, which stands for NewLogWriter, but where the disk is simulated.
//
// What is ahead of use of its file is there before its first record.
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

// Bytes is how much of the file is written, without the zeros behind it.
func (w *Writer) Bytes() int64 { return w.bytes }

// entrySize is what the entry in buf takes in the file.
func entrySize(buf []byte) int64 {
	n := len(buf) - EntryRoom
	return int64(uvarintLen(uint64(n)) + n)
}

// Copies reports whether memory holds a copy of all that is written.
func (w *Writer) Copies() bool { return w.log != nil && w.log.Copies() }

// Limit is how large the segment may become that is to have size bytes.
func (w *Writer) Limit(size int64) int64 {
	if w.Copies() {
		return min(size, MaxCopied)
	}
	return size
}

// Append writes the frame that PutFrame has made in buf, without a copy of it.
// After an error the segment must be abandoned, and Append returns that error.
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

// Sync makes everything written durable. After an error the segment must be
// abandoned: a second attempt can succeed without having written anything. So can
// this one, where a sync of the zeros failed just before.
func (w *Writer) Sync() error { return errors.Join(w.file.Datasync(), w.zeros.failure()) }

// Trim cuts off the zeros that no record took the place of.
func (w *Writer) Trim() error {
	w.zeros.finish()
	return w.file.Truncate(w.bytes)
}

// CutTo cuts off, durably, what is behind size bytes. Nothing is written after it.
func (w *Writer) CutTo(size int64) error {
	w.zeros.finish()
	return errors.Join(w.file.Truncate(size), w.file.Sync())
}

// Close closes a segment that is sealed.
func (w *Writer) Close() error {
	w.zeros.end()
	return errors.Join(w.log.Close(), w.file.Close(), w.zeros.file.Close())
}

// Abandon releases what it can of a segment after a failed write or sync. The
// underlying log is dropped, not closed: closing would sync it once more.
func (w *Writer) Abandon() {
	w.log = nil
	w.zeros.end() // without a wait: the disk may hang
	for _, f := range []vfs.File{w.file, w.zeros.file} {
		if f != nil {
			f.Close()
		}
	}
}
