package simdisk

import (
	"crypto/sha256"
	"maps"
	"path/filepath"
	"slices"
)

// sectorSize is the number of bytes that a disk writes as a whole or not at all.
const sectorSize = 512

// Locked is a disk that no call changes meanwhile. Hooks get it, since they run in the
// middle of a call.
type Locked struct{ disk *Disk }

// Crash returns a disk in a state that a power loss at this moment may leave. Open files
// stay with the old disk.
func (d *Disk) Crash() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Locked{d}.Crash()
}

// Kill returns the disk as the end of the process leaves it. Everything written is there,
// and a later crash can still lose it.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Locked{d}.Kill()
}

// Crash is Disk.Crash.
func (l Locked) Crash() *Disk {
	d := l.disk
	var chosen []int
	switch n := len(d.pending); d.random(4) {
	case 0: // no change was written back
	case 1: // all changes
		for i := range n {
			chosen = append(chosen, i)
		}
	case 2: // the oldest changes, as a journal keeps them
		for i := range d.random(n + 1) {
			chosen = append(chosen, i)
		}
	default: // any changes
		for i := range n {
			if d.random(2) == 0 {
				chosen = append(chosen, i)
			}
		}
	}
	return d.afterCrash(withDependencies(d.pending, chosen))
}

// Kill is Disk.Kill.
func (l Locked) Kill() *Disk {
	d := l.disk
	after := &Disk{capacity: d.capacity, used: d.used, random: d.random, inodes: d.inodes}
	copies := map[*node]*node{}
	after.root = d.root.clone(copies)
	for _, c := range d.pending {
		var same change
		for _, e := range c {
			same = append(same, entry{e.dir.clone(copies), e.name, e.to.clone(copies)})
		}
		after.pending = append(after.pending, same)
	}
	return after
}

// Detach removes the hooks of the disk, and returns the result of after, which is
// Locked.Crash or Locked.Kill.
func (d *Disk) Detach(after func(Locked) *Disk) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pause, d.intercept, d.changed = nil, nil, nil
	return after(Locked{d})
}

// clone copies a node and everything below it, durable or not.
func (n *node) clone(copies map[*node]*node) *node {
	if n == nil {
		return nil
	}
	if same := copies[n]; same != nil {
		return same
	}
	same := &node{
		data: slices.Clone(n.data), stable: slices.Clone(n.stable), unsynced: slices.Clone(n.unsynced), modified: n.modified, links: n.links, ino: n.ino,
	}
	copies[n] = same
	if n.names != nil {
		same.names, same.durable = map[string]*node{}, map[string]*node{}
		for name, child := range n.names {
			same.names[name] = child.clone(copies)
		}
		for name, child := range n.durable {
			same.durable[name] = child.clone(copies)
		}
	}
	return same
}

// afterCrash returns the disk with the durable names, the chosen changes of names, and torn
// files.
func (d *Disk) afterCrash(chosen []bool) *Disk {
	kept := map[*node]map[string]*node{}
	namesOf := func(dir *node) map[string]*node {
		if kept[dir] == nil {
			kept[dir] = maps.Clone(dir.durable)
		}
		return kept[dir]
	}
	for i, c := range d.pending {
		if !chosen[i] {
			continue
		}
		for _, e := range c {
			if e.to == nil {
				delete(namesOf(e.dir), e.name)
			} else {
				namesOf(e.dir)[e.name] = e.to
			}
		}
	}
	after := &Disk{capacity: d.capacity, random: d.random, inodes: d.inodes}
	copies := map[*node]*node{} // a node may have two names
	var copyOf func(n *node) *node
	copyOf = func(n *node) *node {
		if same := copies[n]; same != nil {
			same.links++
			return same
		}
		same := &node{modified: n.modified, links: 1, ino: n.ino}
		copies[n] = same
		if n.names == nil {
			same.data = d.torn(n)
			same.stable = slices.Clone(same.data)
			after.used += int64(len(same.data))
			return same
		}
		same.names = map[string]*node{}
		for _, name := range slices.Sorted(maps.Keys(namesOf(n))) {
			same.names[name] = copyOf(namesOf(n)[name])
		}
		same.durable = maps.Clone(same.names)
		return same
	}
	after.root = copyOf(d.root)
	return after
}

// torn returns what a crash may leave of a file: any sectors of each write since the last
// sync, and any size that the file had since then.
func (d *Disk) torn(n *node) []byte {
	data := slices.Clone(n.stable)
	if len(n.unsynced) == 0 {
		return data
	}
	size := int64(len(data))
	writes := n.unsynced
	complete := false
	switch d.random(4) {
	case 0:
		return data
	case 1:
		complete = true
	case 2:
		writes = writes[:d.random(len(writes)+1)]
		complete = true
	}
	for i := range writes {
		w := &writes[i]
		if complete || d.random(2) == 0 {
			size = w.size
		}
		end := w.at + int64(len(w.data))
		for from := w.at; from < end; {
			to := min(end, (from/sectorSize+1)*sectorSize)
			if complete || d.random(2) == 0 {
				if more := to - int64(len(data)); more > 0 {
					data = append(data, make([]byte, more)...)
				}
				copy(data[from:to], w.data[from-w.at:])
			}
			from = to
		}
		if len(w.data) == 0 && size == w.size && size < int64(len(data)) { // a truncation
			data = data[:size]
		}
	}
	if more := size - int64(len(data)); more > 0 {
		data = append(data, make([]byte, more)...)
	}
	return data[:size]
}

// Hash identifies a state of the disk: names, bytes, and the number of changes that are
// not durable.
func (d *Disk) Hash() [sha256.Size]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := sha256.New()
	var walk func(path string, n *node)
	walk = func(path string, n *node) {
		h.Write([]byte(path))
		h.Write([]byte{0})
		if n.names == nil {
			sum := sha256.Sum256(n.data)
			h.Write(sum[:])
			h.Write([]byte{byte(len(n.unsynced))})
			return
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			walk(path+"/"+name, n.names[name])
		}
	}
	walk("", d.root)
	h.Write([]byte{byte(len(d.pending))})
	return [sha256.Size]byte(h.Sum(nil))
}

// Walk calls each for every file below dir.
func (d *Disk) Walk(dir string, each func(path string, data []byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var walk func(path string, n *node)
	walk = func(path string, n *node) {
		if n.names == nil {
			each(path, n.data)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			walk(filepath.Join(path, name), n.names[name])
		}
	}
	if n, err := d.lookup(dir); err == nil {
		walk(dir, n)
	}
}

// Edit changes the bytes of a file durably, as bit rot does. It is not a call of the
// disk, so no hook is called.
func (d *Disk) Edit(path string, edit func(data []byte) []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.lookup(path)
	if err != nil {
		return err
	}
	before := len(n.data)
	n.data = edit(n.data)
	n.stable, n.unsynced = slices.Clone(n.data), nil
	d.used += int64(len(n.data) - before)
	return nil
}
