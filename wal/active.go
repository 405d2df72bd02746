package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"collectord/wal/vfs"
)

// active is the segment that is written to, or the one prepared to follow it.
// Only one goroutine at a time uses it.
//
// The underlying log creates the file and appends to it; it is never asked to
// open, read or repair one. Durability is ours, through a second descriptor of
// the same file.
type active struct {
	dir   string
	log   entryWriter
	file  vfs.File
	index uint64 // of the last entry written
	bytes int64
	acked int64 // of bytes, up to the last acknowledged record

	lent *buffers // those of the log, or nil

	first    uint64             // seq of the first record; 0 while it is only prepared
	count    uint64             // records that are acknowledged
	firstAt  int64              // ReceivedAt of the first record
	since    time.Time          // when the first record was committed, by the monotonic clock
	datasync func(fd int) error // in place of fdatasync(2), in tests
	failed   bool               // a write or sync failed: it is only to be abandoned
	unsaved  bool               // written and acknowledged but not yet synced (SyncInterval)
}

// createActive makes a segment that holds nothing but its header, durable under
// the name dir.
//
// The first fill bytes of its file are written with zeros ahead of use: a sync
// after writing there needs no change to the file's size or extents, and takes
// about half the time.
func createActive(dir string, header SegmentHeader, fill int64, datasync func(fd int) error, disk disk) (a *active, err error) {
	if err := disk.mkdir(dir); err != nil {
		return nil, err
	}
	a = &active{dir: dir, datasync: datasync}
	if a.log, a.lent, err = disk.writer(dir); err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	a.file, err = disk.fs().OpenWritable(filepath.Join(dir, fileName))
	if err != nil {
		a.abandon()
		return nil, err
	}
	if err = a.write(header.append(nil)); err == nil {
		err = a.zeroTo(fill)
	}
	if err == nil {
		err = a.file.Sync()
	}
	if err == nil {
		err = errors.Join(disk.syncDir(dir), disk.syncDir(filepath.Dir(dir)))
	}
	if err != nil {
		a.abandon()
		return nil, fmt.Errorf("write segment header: %w", err)
	}
	return a, nil
}

// zeroTo writes zeros from the end of what is written up to size. It is only
// called before records are.
func (a *active) zeroTo(size int64) error {
	zeros := make([]byte, min(256<<10, max(0, size-a.bytes)))
	for at := a.bytes; at < size; {
		n, err := a.file.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// trim cuts off the zeros that no record took the place of. After a failure it also
// cuts off, durably, what was not acknowledged: those seqs are given out again.
func (a *active) trim() error {
	if !a.failed {
		return a.file.Truncate(a.bytes)
	}
	return errors.Join(a.file.Truncate(a.acked), a.file.Sync())
}

// write appends one entry. After an error the segment must be abandoned.
func (a *active) write(entry []byte) error {
	if err := a.log.Write(a.index+1, entry); err != nil {
		return err
	}
	a.index++
	a.bytes += int64(uvarintLen(uint64(len(entry))) + len(entry))
	return nil
}

// writeFrame is write for an entry before which buf has entryRoom. The underlying
// log makes no copy of it.
func (a *active) writeFrame(buf []byte) error {
	if a.lent != nil {
		a.lent.lend(buf)
		defer a.lent.reclaim()
	}
	return a.write(buf[entryRoom:])
}

// sync makes everything written durable. After an error the segment must be
// abandoned: a second attempt can succeed without having written anything.
func (a *active) sync() error {
	a.unsaved = false // also after an error: nobody is to try again
	if f, ok := a.file.(interface{ Fd() uintptr }); ok && a.datasync != nil {
		if err := a.datasync(int(f.Fd())); err != nil {
			return &fs.PathError{Op: "fdatasync", Path: a.file.Name(), Err: err}
		}
		return nil
	}
	return a.file.Datasync()
}

func (a *active) last() uint64 { return a.first + a.count - 1 }

// release closes a segment that is sealed.
func (a *active) release() error {
	if a.failed {
		a.abandon()
		return nil
	}
	return errors.Join(a.log.Close(), a.file.Close())
}

// abandon releases what it can of a segment after a failed write or sync. The
// underlying log is dropped, not closed: closing would sync it once more.
func (a *active) abandon() {
	a.log, a.lent = nil, nil
	if a.file != nil {
		a.file.Close()
	}
}

func uvarintLen(n uint64) (size int) {
	for size = 1; n >= 0x80; size++ {
		n >>= 7
	}
	return size
}
