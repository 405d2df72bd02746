package segment

import (
	"errors"
	"io/fs"
	"sync"

	"collectord/wal/vfs"
)

// zeros writes zeros after the entries of a segment's file. Entries then overwrite the
// zeros, and a sync of them changes neither the file's size nor its extents. Such a sync
// takes about half the time.
//
// Two goroutines use it. The goroutine that writes entries claims their bytes first; the
// other one writes zeros above the claimed bytes. A claim waits for zeros that are being
// written in its place.
type zeros struct {
	// file has a descriptor of its own: the kernel reports a write error once to each
	// descriptor, and Writer.Sync must not miss the error.
	file vfs.File

	mu        sync.Mutex // guards the fields below
	idle      sync.Cond  // signalled when a write or a sync has ended
	claimed   int64      // offset up to which bytes are claimed for entries
	filled    int64      // offset up to which zeros or entries are written
	writingAt int64      // offset of the zeros that are being written, or -1
	stopped   bool       // no more zeros may be written
	syncing   bool
	err       error // of a sync, or of a write unless the disk was full
}

// zeroChunk is the number of zeros in one write. syncChunk is the number of zeros that
// are synced at a time; it is small because a sync of entries waits for a sync of zeros.
const (
	zeroChunk = 256 << 10
	syncChunk = 1 << 20
)

var zeroBytes [zeroChunk]byte //nolint:gochecknoglobals // never written to, so it takes no memory

// Prealloc is the number of bytes of a segment's file that are prepared before use.
type Prealloc struct {
	Zeros int64 // bytes that are written as zeros
	// Reserved is the number of bytes to reserve without a write, where the file system
	// can. Other programs that fill the disk can't take them.
	Reserved int64
}

func (a Prealloc) apply(w *Writer) error {
	if r, ok := w.file.(vfs.Reserver); ok && a.Reserved > 0 {
		if err := r.Reserve(a.Reserved); err != nil {
			return err
		}
	}
	return w.zeros.write(w.Limit(a.Zeros))
}

func (z *zeros) init(claimed int64) {
	z.idle.L = &z.mu
	z.writingAt, z.claimed = -1, claimed
}

// claim marks the bytes below end as entries. It waits for zeros that are being written
// there.
func (z *zeros) claim(end int64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for z.writingAt >= 0 && z.writingAt < end {
		z.idle.Wait()
	}
	z.claimed = end
}

// stop prevents further writes of zeros. It does not wait for a write in progress.
func (z *zeros) stop() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.stopped = true
}

// stopAndWait prevents further writes of zeros, and waits for a write in progress.
func (z *zeros) stopAndWait() {
	z.stop()
	z.mu.Lock()
	defer z.mu.Unlock()
	for z.writingAt >= 0 {
		z.idle.Wait()
	}
}

// filledTo returns the offset up to which the file has zeros, entries or claimed bytes.
func (z *zeros) filledTo() int64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	return max(z.filled, z.claimed)
}

// failure returns the error of an earlier sync or write of zeros; a write to a full disk
// does not count. failure waits for a sync in progress: a failed sync of zeros can lose entries,
// and a later sync of the entries may not report the loss.
func (z *zeros) failure() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	for z.syncing {
		z.idle.Wait()
	}
	return z.err
}

// sync makes the zeros durable, together with the entries of the file.
func (z *zeros) sync() error {
	z.mu.Lock()
	z.syncing = true
	z.mu.Unlock()

	err := z.file.Sync()

	z.mu.Lock()
	defer z.mu.Unlock()
	z.syncing = false
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		z.err = err
	}
	z.idle.Broadcast()
	return err
}

// write writes zeros up to offset size. It leaves less than syncChunk bytes of them
// unsynced.
func (z *zeros) write(size int64) error {
	for unsynced := int64(0); ; {
		n, err := z.writeChunk(size)
		if n == 0 || err != nil {
			return err
		}
		if unsynced += n; unsynced >= syncChunk {
			unsynced = 0
			if err := z.sync(); err != nil {
				return err
			}
		}
	}
}

// writeChunk writes at most zeroChunk zeros and returns how many, or 0 if none are needed
// below offset size.
func (z *zeros) writeChunk(size int64) (n int64, err error) {
	z.mu.Lock()
	at := max(z.filled, z.claimed)
	if z.stopped || at >= size {
		z.mu.Unlock()
		return 0, nil
	}
	z.writingAt = at
	z.mu.Unlock()

	wrote, err := z.file.WriteAt(zeroBytes[:min(zeroChunk, size-at)], at)

	z.mu.Lock()
	defer z.mu.Unlock()
	z.writingAt, z.filled = -1, at+int64(wrote)
	z.idle.Broadcast()
	return int64(wrote), err
}

// Fill writes zeros up to offset size and syncs them, unless the segment is finished
// meanwhile. It may be called concurrently with the other methods. Every later Sync
// returns the error, too, unless a write failed because the disk was full.
func (w *Writer) Fill(size int64) error {
	z := &w.zeros
	err := z.write(size)
	if err == nil {
		err = z.sync()
	}
	if errors.Is(err, fs.ErrClosed) {
		return nil // the segment was closed meanwhile
	}
	if err != nil && !vfs.IsFull(err) {
		z.mu.Lock()
		z.err = err
		z.mu.Unlock()
	}
	return err
}
