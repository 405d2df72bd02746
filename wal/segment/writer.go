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
	Write(index uint64, entry []byte) error // index counts from 1
	Close() error
}

// NewEntryWriter makes the file of a segment in an empty directory.
type NewEntryWriter func(dir string) (EntryWriter, error)

// Writer writes one segment. Only one goroutine at a time uses it.
//
// The underlying log creates the file and appends to it; it is never asked to
// open, read or repair one. Durability is ours, through a second descriptor of
// the same file.
type Writer struct {
	log   EntryWriter
	lent  *buffers // those of the log, or nil
	file  vfs.File
	index uint64 // of the last entry written
	bytes int64  // written by the underlying log
	zeros zeros  // behind them
}

// Create makes a segment that holds nothing but its header, durable under the name
// dir. newLog is nil but where the disk is simulated.
//
// What is ahead of use of its file is there before its first record.
func Create(disk vfs.Disk, dir string, header Header, ahead Ahead, newLog NewEntryWriter) (w *Writer, err error) {
	if err := disk.Mkdir(dir); err != nil {
		return nil, err
	}
	w = &Writer{}
	w.zeros.init()
	if newLog != nil {
		w.log, err = newLog(dir)
	} else {
		w.log, w.lent, err = openLog(dir)
	}
	if err != nil {
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
	if err = w.write(header.append(nil)); err == nil {
		err = ahead.take(w)
	}
	if err == nil {
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

// write appends one entry.
func (w *Writer) write(entry []byte) error {
	end := w.bytes + int64(uvarintLen(uint64(len(entry)))+len(entry))
	w.zeros.claim(end)
	if err := w.log.Write(w.index+1, entry); err != nil {
		return err
	}
	w.index++
	w.bytes = end
	return nil
}

// Append writes the frame that PutFrame has made in buf, without a copy of it.
// After an error the segment must be abandoned.
func (w *Writer) Append(buf []byte) error {
	if w.lent != nil {
		w.lent.lend(buf)
		defer w.lent.reclaim()
	}
	return w.write(buf[EntryRoom:])
}

// Sync makes everything written durable. After an error the segment must be
// abandoned: a second attempt can succeed without having written anything.
func (w *Writer) Sync() error { return errors.Join(w.file.Datasync(), w.zeros.failure()) }

// Trim cuts off the zeros that no record took the place of.
func (w *Writer) Trim() error {
	w.zeros.finish()
	return w.file.Truncate(w.bytes)
}

// Close closes a segment that is sealed.
func (w *Writer) Close() error {
	w.zeros.end()
	return errors.Join(w.log.Close(), w.file.Close(), w.zeros.file.Close())
}

// Abandon releases what it can of a segment after a failed write or sync. The
// underlying log is dropped, not closed: closing would sync it once more.
func (w *Writer) Abandon() {
	w.log, w.lent = nil, nil
	w.zeros.end() // without a wait: the disk may hang
	for _, f := range []vfs.File{w.file, w.zeros.file} {
		if f != nil {
			f.Close()
		}
	}
}
