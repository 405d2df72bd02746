package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"collectord/wal/vfs"
)

// Aside is an entry that was put aside: moved to the quarantine, or, where that failed,
// left in its place.
type Aside struct {
	Path string // relative to the data directory
	Why  string // empty for the quarantine, where a report may tell
}

// aside lists what was left in its place and is passed over until the next start.
type aside struct {
	mu   sync.Mutex // guards left
	left []Aside
}

func (a *aside) add(one Aside) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = append(a.left, one)
}

func (a *aside) list() []Aside {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.left)
}

func (a *aside) unlist(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = slices.DeleteFunc(a.left, func(one Aside) bool { return one.Path == path })
}

// refresh unlists what is not there any more, and returns the number of the rest.
func (a *aside) refresh(disk vfs.Disk, dataDir string) int {
	for _, one := range a.list() {
		if _, err := disk.Stat(filepath.Join(dataDir, one.Path)); errors.Is(err, fs.ErrNotExist) {
			a.unlist(one.Path)
		}
	}
	return len(a.list())
}

// reset undoes what a failed start has listed.
func (a *aside) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = nil
}

// maxAside is the most entries that PutAside lists.
const maxAside = 100

// PutAside lists what was put aside, at most a hundred entries. It reads the disk.
func (l *Log) PutAside() (all []Aside) {
	for _, name := range l.quarantined() {
		all = append(all, Aside{Path: filepath.Join("wal", quarantineName, name)})
	}
	all = append(l.aside.list(), all...)
	return all[:min(len(all), maxAside)]
}

// quarantined lists the names in the quarantine, without the reports.
func (b *base) quarantined() (names []string) {
	entries, err := b.disk.List(filepath.Join(b.dir, quarantineName))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".txt") {
			names = append(names, e.Name())
		}
	}
	return names
}

var errInTheWay = errors.New("it was in the place of a part of the log")

// putAside moves to the quarantine what can't be read or is in the way. If that fails,
// and the start tolerates it, the entry gets another name; if that fails too, it is
// left.
func (b *base) putAside(path string, why error) error {
	err := b.quarantinePath(path)
	if err != nil && !b.tolerates(err) {
		return err
	}
	if _, errStat := b.disk.Stat(path); err == nil || errors.Is(errStat, fs.ErrNotExist) { // moved, though perhaps not durably
		b.aside.unlist(b.relative(path))
		return nil
	}
	if b.disk.RenameDurably(path, b.asidePath(path)) == nil {
		path = b.asidePath(path)
	}
	b.leave(path, errors.Join(why, err))
	return nil
}

// asideMark is in the name of what was in the way and could not be moved to the
// quarantine. Each start tries again.
const asideMark = ".aside-"

// asidePath is the name that an entry gets if it can't be moved to the quarantine.
func (b *base) asidePath(path string) string {
	return fmt.Sprintf("%s%s%016x", path, asideMark, b.runID)
}

// leave lists an entry that stays in its place.
func (b *base) leave(path string, why error) { b.aside.add(Aside{b.relative(path), why.Error()}) }

// relative is a path as the status shows it.
func (b *base) relative(path string) string {
	if rel, err := filepath.Rel(b.dataDir, path); err == nil {
		return rel
	}
	return path
}

// tolerates reports whether the start continues without the entry that err is about.
func (b *base) tolerates(err error) bool {
	return b.tolerance == skipAny || b.tolerance == skipPermanent && !isTransient(err)
}
