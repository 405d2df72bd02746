package segment

import (
	"errors"
	"io/fs"
	"sync"

	"collectord/wal/vfs"
)

// zeros are those ahead of what is written to a segment's file: a sync after writing
// there needs no change to the file's size or extents, and takes about half the time.
//
// Two goroutines use it. The one that writes entries claims their bytes first. Another
// one writes zeros where nothing is claimed, and no claim is granted where it is
// writing.
type zeros struct {
	// A descriptor of its own: an error of the disk is reported once to each, and is
	// not to be missing from what Sync returns.
	file vfs.File

	mu      sync.Mutex // guards what follows
	idle    sync.Cond  // nothing is being written
	claimed int64      // below it are entries
	filled  int64      // below it are zeros, or entries
	from    int64      // of what is being written, or -1
	ended   bool       // no more is to be written
	syncing bool
	err     error // of a sync, or of a write but for want of room
}

// What is written of zeros at once, and what is synced at once: a sync of entries
// waits for it.
const (
	zeroChunk = 256 << 10
	syncChunk = 1 << 20
)

var zeroBytes [zeroChunk]byte //nolint:gochecknoglobals // never written to, so it takes no memory

// Ahead is how many bytes of a segment's file are taken ahead of use.
type Ahead struct {
	Zeros int64 // written
	// Room is taken without a write, where the file system can, so that a disk that
	// others fill up has room for them.
	Room int64
}

func (a Ahead) take(w *Writer) error {
	if r, ok := w.file.(vfs.Reserver); ok && a.Room > 0 {
		if err := r.Reserve(a.Room); err != nil {
			return err
		}
	}
	return w.zeros.write(w.Limit(a.Zeros))
}

func (z *zeros) init(claimed int64) {
	z.idle.L = &z.mu
	z.from, z.claimed = -1, claimed
}

// claim keeps zeros from the bytes up to end.
func (z *zeros) claim(end int64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for z.from >= 0 && z.from < end {
		z.idle.Wait()
	}
	z.claimed = end
}

// end keeps more zeros from being written.
func (z *zeros) end() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.ended = true
}

// finish returns once no zeros are being written, and none will be.
func (z *zeros) finish() {
	z.end()
	z.mu.Lock()
	defer z.mu.Unlock()
	for z.from >= 0 {
		z.idle.Wait()
	}
}

// filledTo is how far the file is written.
func (z *zeros) filledTo() int64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	return max(z.filled, z.claimed)
}

// failure returns the error that ended the writing of zeros, unless it was a write
// without room. It waits for a sync that is under way: one that fails may lose entries,
// too, and a sync of theirs may not return it.
func (z *zeros) failure() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	for z.syncing {
		z.idle.Wait()
	}
	return z.err
}

// sync makes the zeros durable. The file's entries are synced with them.
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

// write writes zeros from where they end up to size. The last of them are not
// synced yet.
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

// writeChunk writes some zeros, or none if there are enough.
func (z *zeros) writeChunk(size int64) (n int64, err error) {
	z.mu.Lock()
	at := max(z.filled, z.claimed)
	if z.ended || at >= size {
		z.mu.Unlock()
		return 0, nil
	}
	z.from = at
	z.mu.Unlock()

	wrote, err := z.file.WriteAt(zeroBytes[:min(zeroChunk, size-at)], at)

	z.mu.Lock()
	defer z.mu.Unlock()
	z.from, z.filled = -1, at+int64(wrote)
	z.idle.Broadcast()
	return int64(wrote), err
}

// Fill writes zeros up to size, unless the segment is finished meanwhile. Another
// goroutine than the one that writes may call it. An error is also one of the segment's
// next Sync, unless it is of a write without room.
func (w *Writer) Fill(size int64) error {
	z := &w.zeros
	err := z.write(size)
	if err == nil {
		err = z.sync()
	}
	if errors.Is(err, fs.ErrClosed) {
		return nil // it is finished
	}
	if err != nil && !vfs.IsFull(err) {
		z.mu.Lock()
		z.err = err
		z.mu.Unlock()
	}
	return err
}
