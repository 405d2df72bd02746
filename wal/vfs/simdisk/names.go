package simdisk

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// The names of all calls.
const (
	Open      Op = "open"
	Reopen    Op = "open for writing"
	Create    Op = "create"
	Mkdir     Op = "mkdir"
	Rename    Op = "rename"
	Remove    Op = "remove"
	RemoveDir Op = "rmdir"
	Link      Op = "link"
	List      Op = "list"
	Stat      Op = "stat"
	SyncDir   Op = "syncdir"
	Free      Op = "free"
	Lock      Op = "lock"
	Read      Op = "read"
	Write     Op = "write"
	Truncate  Op = "truncate"
	Sync      Op = "sync"
	Datasync  Op = "datasync"
	Close     Op = "close"
	Reserve   Op = "fallocate"
)

// Mkdir implements vfs.FS.
func (d *Disk) Mkdir(path string) error {
	return d.run(Call{Op: Mkdir, Path: path}, func() error { return d.add(path, newDir()) })
}

func (d *Disk) add(path string, n *node) error {
	dir, name, err := d.parent(path)
	if err == nil && dir.names[name] != nil {
		err = syscall.EEXIST
	}
	if err == nil {
		d.applyNames(change{{dir, name, n}})
	}
	return err
}

// Rename implements vfs.FS.
func (d *Disk) Rename(from, to string) error {
	c := Call{Op: Rename, Path: from, To: to}
	err := d.run(c, func() error {
		fromDir, fromName, err := d.parent(from)
		if err != nil {
			return err
		}
		toDir, toName, err := d.parent(to)
		if err != nil {
			return err
		}
		n, replaced := fromDir.names[fromName], toDir.names[toName]
		switch {
		case n == nil:
			return syscall.ENOENT
		case n == replaced:
			return nil
		case replaced != nil && n.names == nil && replaced.names != nil:
			return syscall.EISDIR
		case replaced != nil && n.names != nil && replaced.names == nil:
			return syscall.ENOTDIR
		case replaced != nil && len(replaced.names) > 0:
			return syscall.ENOTEMPTY
		}
		d.applyNames(change{{toDir, toName, n}, {fromDir, fromName, nil}})
		return nil
	})
	if failed, ok := err.(*fs.PathError); ok { //nolint:errorlint // run returns nothing else
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: failed.Err}
	}
	return err
}

// Remove implements vfs.FS.
func (d *Disk) Remove(path string) error {
	return d.delete(Call{Op: Remove, Path: path}, func(n *node) error {
		if n.names != nil {
			return syscall.EISDIR
		}
		return nil
	})
}

// RemoveIn implements vfs.FS.
func (d *Disk) RemoveIn(dir, name string) error { return d.Remove(filepath.Join(dir, name)) }

// RemoveDir implements vfs.FS.
func (d *Disk) RemoveDir(path string) error {
	return d.delete(Call{Op: RemoveDir, Path: path}, func(n *node) error {
		switch {
		case n.names == nil:
			return syscall.ENOTDIR
		case len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		return nil
	})
}

// delete deletes a name, unless check returns an error for its node.
func (d *Disk) delete(c Call, check func(*node) error) error {
	return d.run(c, func() error {
		dir, name, err := d.parent(c.Path)
		if err != nil {
			return err
		}
		n := dir.names[name]
		if n == nil {
			return syscall.ENOENT
		}
		if err := check(n); err != nil {
			return err
		}
		d.applyNames(change{{dir, name, nil}})
		return nil
	})
}

// Link implements vfs.FS.
func (d *Disk) Link(from, to string) error {
	return d.run(Call{Op: Link, Path: from}, func() error {
		n, err := d.lookup(from)
		if err != nil {
			return err
		}
		if n.names != nil {
			return syscall.EPERM
		}
		return d.add(to, n)
	})
}

// List implements vfs.FS.
func (d *Disk) List(dir string) (all []fs.DirEntry, err error) {
	err = d.runReadOnly(Call{Op: List, Path: dir}, func() error {
		n, err := d.lookup(dir)
		if err == nil && n.names == nil {
			err = syscall.ENOTDIR
		}
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			all = append(all, fs.FileInfoToDirEntry(n.names[name].info(name)))
		}
		return nil
	})
	return all, err
}

// SyncDir implements vfs.FS.
func (d *Disk) SyncDir(path string) error {
	c := Call{Op: SyncDir, Path: path}
	f, ok := d.begin(c)
	defer d.mu.Unlock()
	dir, err := d.lookup(path)
	if err != nil && f.Err == nil {
		return pathError(c, err)
	}
	if ok && err == nil {
		var touched []int
		for i, c := range d.pending {
			if slices.ContainsFunc(c, func(e entry) bool { return e.dir == dir }) {
				touched = append(touched, i)
			}
		}
		d.makeDurable(touched)
		d.notifyChanged(c)
	}
	if f.Err != nil {
		return pathError(c, f.Err)
	}
	return nil
}

// makeDurable makes the pending changes with the chosen indexes durable, together with the
// earlier changes that they depend on.
func (d *Disk) makeDurable(chosen []int) {
	durable := withDependencies(d.pending, chosen)
	var left []change
	for i, c := range d.pending {
		if !durable[i] {
			left = append(left, c)
			continue
		}
		c.apply()
	}
	d.pending = left
}

func (c change) apply() {
	for _, e := range c {
		if e.to == nil {
			delete(e.dir.durable, e.name)
		} else {
			e.dir.durable[e.name] = e.to
		}
	}
}

// withDependencies reports for each pending change whether it is chosen, or is an
// earlier change of a name that a chosen one changes.
func withDependencies(pending []change, chosen []int) []bool {
	type place struct {
		dir  *node
		name string
	}
	needed := make([]bool, len(pending))
	names := map[place]bool{}
	for i := len(pending) - 1; i >= 0; i-- {
		in := slices.Contains(chosen, i) ||
			slices.ContainsFunc(pending[i], func(e entry) bool { return names[place{e.dir, e.name}] })
		if !in {
			continue
		}
		needed[i] = true
		for _, e := range pending[i] {
			names[place{e.dir, e.name}] = true
		}
	}
	return needed
}

// applyNames changes names in memory. A crash can lose the change.
func (d *Disk) applyNames(c change) {
	for _, e := range c {
		if old := e.dir.names[e.name]; old != nil {
			if old.links--; old.links == 0 {
				d.used -= int64(len(old.data))
			}
		}
		if e.to == nil {
			delete(e.dir.names, e.name)
		} else {
			e.dir.names[e.name] = e.to
			e.to.links++
		}
		e.dir.modified = time.Now()
	}
	d.pending = append(d.pending, c)
}
