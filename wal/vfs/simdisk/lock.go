package simdisk

import (
	"io"
	"syscall"
)

// Lock implements vfs.FS. A disk that Crash or Kill has returned has no locks.
func (d *Disk) Lock(path string) (io.Closer, error) {
	c := Call{Op: Lock, Path: path}
	f, _ := d.begin(c)
	defer d.mu.Unlock()
	switch {
	case f.Err != nil:
		return nil, pathError(c, f.Err)
	case d.locked[path]:
		return nil, pathError(c, syscall.EWOULDBLOCK)
	case d.locked == nil:
		d.locked = map[string]bool{}
	}
	d.locked[path] = true
	return lock{d, path}, nil
}

type lock struct {
	disk *Disk
	path string
}

func (l lock) Close() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	delete(l.disk.locked, l.path)
	return nil
}
