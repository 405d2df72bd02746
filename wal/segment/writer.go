package segment

import (
	"errors"
	"fmt"
	"path/filepath"

	"collectord/wal/vfs"
)

// EntryWriter appends entries to the file of a segment, in the format of FORMAT.md: the
// length of each entry, then its bytes. It must not be used after an error.
type EntryWriter interface {
	// Write appends the entry buf[MaxLengthPrefix:]. It may overwrite
	// buf[:MaxLengthPrefix], and keeps no reference to buf.
	Write(buf []byte) error
	// KeepsCopies reports whether the writer keeps a copy of everything that it has
	// written.
	KeepsCopies() bool
	Close() error
}

// NewEntryWriter creates the file of a segment in an empty directory and writes the first
// entry, as Write does.
type NewEntryWriter func(dir string, first []byte) (EntryWriter, error)

// Writer writes one segment. Only one goroutine at a time may use it, except that another
// one may call Fill.
//
// The log library creates the file and appends to it. The library never opens, reads or
// repairs an existing file. The Writer syncs through a second descriptor, and writes
// zeros through a third.
type Writer struct {
	log   EntryWriter
	file  vfs.File
	bytes int64 // size of the entries written
	zeros zeros // after the entries
	err   error // of the failed write, after which nothing may be written
}

// Create creates a segment in the new directory dir, which is durable on return. The
// segment contains only its header, and the zeros and reserved space of prealloc.
// newLog creates the file; nil means NewLogWriter. A simulated disk needs a newLog of its
// own.
func Create(disk vfs.Disk, dir string, header Header, prealloc Prealloc, newLog NewEntryWriter) (w *Writer, err error) {
	if newLog == nil {
		newLog = NewLogWriter
	}
	if err := disk.Mkdir(dir); err != nil {
		return nil, err
	}
	first := header.append(make([]byte, MaxLengthPrefix))
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
	if err = prealloc.apply(w); err == nil {
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

// Filled returns the number of bytes from the start of the file that are entries or
// zeros.
func (w *Writer) Filled() int64 { return w.zeros.filledTo() }

// Bytes returns the size in bytes of the entries in the file.
func (w *Writer) Bytes() int64 { return w.bytes }

// entrySize is the number of bytes that the entry in buf takes in the file.
func entrySize(buf []byte) int64 {
	n := len(buf) - MaxLengthPrefix
	return int64(uvarintLen(uint64(n)) + n)
}

// KeepsCopies reports whether the log library keeps a copy of everything written in memory.
func (w *Writer) KeepsCopies() bool { return w.log != nil && w.log.KeepsCopies() }

// Limit returns the size in bytes at which to seal the segment: size, or at most
// MaxCopied if the log library keeps copies.
func (w *Writer) Limit(size int64) int64 {
	if w.KeepsCopies() {
		return min(size, MaxCopied)
	}
	return size
}

// Append writes the frame that PutFrame has completed in buf, without copying it. After
// an error the caller must abandon the segment; every later call returns that error.
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

// Sync makes everything written durable. After an error the caller must abandon the
// segment, because a later sync can return success without having written anything. Sync
// also returns the error of an earlier sync of zeros, which may have lost entries.
func (w *Writer) Sync() error { return errors.Join(w.file.Datasync(), w.zeros.failure()) }

// Trim cuts off the zeros after the last record.
func (w *Writer) Trim() error {
	w.zeros.stopAndWait()
	return w.file.Truncate(w.bytes)
}

// CutTo truncates the file to size bytes, durably. Nothing may be written after CutTo.
func (w *Writer) CutTo(size int64) error {
	w.zeros.stopAndWait()
	return errors.Join(w.file.Truncate(size), w.file.Sync())
}

// Close closes the files of a sealed segment.
func (w *Writer) Close() error {
	w.zeros.stop()
	return errors.Join(w.log.Close(), w.file.Close(), w.zeros.file.Close())
}

// Abandon closes the files without waiting for the disk, after a failure or if the
// segment is not needed. It does not close the log library's writer, because that would
// sync.
func (w *Writer) Abandon() {
	w.log = nil
	w.zeros.stop() // without a wait: the disk may hang
	for _, f := range []vfs.File{w.file, w.zeros.file} {
		if f != nil {
			f.Close()
		}
	}
}
