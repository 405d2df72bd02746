package segment

import (
	"errors"
	"io/fs"
	"sync"

	"collectord/wal/vfs"
)

// zeros writes zeros behind the entries of a segment's file: a sync after writing over
// them changes neither the file's size nor its extents, and takes about half the time.
//
// Two goroutines use it. The one that writes entries claims their bytes first; the
// other writes zeros where nothing is claimed. A claim waits for zeros that are being
// written in its place.
type zeros struct {
	// A descriptor of its own: the kernel reports a write error once to each
	// descriptor, and Writer.Sync must not miss it.
	file vfs.File

	mu      sync.Mutex // guards what follows
	idle    sync.Cond  // signalled when a write or a sync has ended
	claimed int64      // entries are below it
	filled  int64      // zeros or entries are below it
	from    int64      // offset of the zeros that are being written, or -1
	ended   bool       // no more zeros are to be written
	syncing bool
	err     error // of a sync, or of a write other than for want of space
}

// zeroChunk is how many bytes of zeros are written at a time, syncChunk how many are
// synced at a time: a sync of entries waits for that.
const (
	zeroChunk = 256 << 10
	syncChunk = 1 << 20
)

var zeroBytes [zeroChunk]byte //nolint:gochecknoglobals // never written to, so it takes no memory

// Ahead is how many bytes of a segment's file are taken ahead of use.
type Ahead struct {
	Zeros int64 // written as zeros
	// Room is reserved without a write, where the file system can, in case others fill
	// the disk.
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

// claim keeps zeros from the bytes below end. It waits for those that are being written
// there.
func (z *zeros) claim(end int64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for z.from >= 0 && z.from < end {
		z.idle.Wait()
	}
	z.claimed = end
}

// end keeps more zeros from being written. It does not wait.
func (z *zeros) end() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.ended = true
}

// finish keeps more zeros from being written, and waits for those that are being
// written.
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

// failure returns the error of an earlier sync or write of zeros, other than for want
// of space. It waits for a sync that is under way: if that fails it may lose entries,
// too, and a sync of the entries may not report it.
func (z *zeros) failure() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	for z.syncing {
		z.idle.Wait()
	}
	return z.err
}

// sync makes the zeros durable, and with them the entries of the file.
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

// write writes zeros up to size. The last of them are not synced.
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

// writeChunk writes some zeros and returns how many, 0 if there are enough.
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
// goroutine than the writing one may call it. The next Sync returns its error, too,
// unless that is a want of space.
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
