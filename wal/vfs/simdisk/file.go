package simdisk

import (
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"
)

type file struct {
	disk     *Disk
	node     *node
	path     string
	writable bool
	closed   bool // guarded by the disk's mutex
}

func (f *file) Name() string { return f.path }

func (f *file) Stat() (fs.FileInfo, error) {
	c := Call{Op: Stat, Path: f.path}
	fault, _ := f.disk.begin(c)
	defer f.disk.mu.Unlock()
	if fault.Err != nil {
		return nil, pathError(c, fault.Err)
	}
	return f.node.info(filepath.Base(f.path)), nil
}

// Close closes the file also if the call fails.
func (f *file) Close() error {
	c := Call{Op: Close, Path: f.path}
	fault, _ := f.disk.begin(c)
	defer f.disk.mu.Unlock()
	if f.closed {
		return pathError(c, fs.ErrClosed)
	}
	f.closed = true
	if fault.Err != nil {
		return pathError(c, fault.Err)
	}
	return nil
}

// Reserve implements vfs.Reserver. It needs the space and does not take it.
func (f *file) Reserve(size int64) error {
	c := Call{Op: Reserve, Path: f.path}
	return f.disk.runReadOnly(c, func() error {
		if size-int64(len(f.node.data)) > f.disk.capacity-f.disk.used {
			return syscall.ENOSPC
		}
		return f.checkWritable()
	})
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	c := Call{Op: Read, Path: f.path, Off: off, Len: len(p)}
	fault, _ := f.disk.begin(c)
	defer f.disk.mu.Unlock()
	switch {
	case fault.Err != nil:
		return 0, pathError(c, fault.Err)
	case f.closed:
		return 0, pathError(c, fs.ErrClosed)
	case off >= int64(len(f.node.data)):
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	c := Call{Op: Write, Path: f.path, Off: off, Len: len(p)}
	fault, ok := f.disk.begin(c)
	defer f.disk.mu.Unlock()
	if err := f.checkWritable(); err != nil {
		return 0, pathError(c, err)
	}
	err := fault.Err
	if !ok {
		p = p[:min(fault.WrittenBytes, len(p))]
	}
	size := int64(len(f.node.data))
	if grown := off + int64(len(p)) - size; grown > 0 {
		if room := f.disk.capacity - f.disk.used; grown > room {
			p = p[:max(0, int64(len(p))-(grown-max(0, room)))]
			err = syscall.ENOSPC
		}
	}
	if len(p) > 0 {
		f.applyWrite(write{at: off, data: append([]byte(nil), p...), size: max(size, off+int64(len(p)))})
		f.disk.notifyChanged(c)
	}
	if err != nil {
		return len(p), pathError(c, err)
	}
	return len(p), nil
}

func (f *file) checkWritable() error {
	switch {
	case f.closed:
		return fs.ErrClosed
	case !f.writable:
		return syscall.EBADF
	}
	return nil
}

// applyWrite changes the file in memory. A crash can lose the change.
func (f *file) applyWrite(w write) {
	n := f.node
	f.disk.used += w.size - int64(len(n.data))
	n.data = w.apply(n.data)
	n.unsynced = append(n.unsynced, w)
	n.modified = time.Now()
}

// apply returns data with the write applied. It may modify data in place.
func (w *write) apply(data []byte) []byte {
	if more := w.size - int64(len(data)); more > 0 {
		data = append(data, make([]byte, more)...)
	}
	data = data[:w.size:w.size]
	copy(data[min(w.at, w.size):], w.data)
	return data
}

func (f *file) Truncate(size int64) error {
	return f.disk.run(Call{Op: Truncate, Path: f.path}, func() error {
		if err := f.checkWritable(); err != nil {
			return err
		}
		if grown := size - int64(len(f.node.data)); grown > 0 && grown > f.disk.capacity-f.disk.used {
			return syscall.ENOSPC
		}
		f.applyWrite(write{at: size, size: size})
		return nil
	})
}

func (f *file) Sync() error { return f.sync(Sync) }

func (f *file) Datasync() error { return f.sync(Datasync) }

func (f *file) sync(op Op) error {
	c := Call{Op: op, Path: f.path}
	fault, ok := f.disk.begin(c)
	defer f.disk.mu.Unlock()
	if f.closed {
		return pathError(c, fs.ErrClosed)
	}
	n := f.node
	if ok {
		for i := range n.unsynced { // n.data may contain what an earlier failed sync has lost
			n.stable = n.unsynced[i].apply(n.stable)
		}
	} else {
		n.stable = f.disk.torn(n)
	}
	n.unsynced = nil // after a failed sync, too: the pages are marked clean
	f.disk.notifyChanged(c)
	if fault.Err != nil {
		return pathError(c, fault.Err)
	}
	return nil
}
