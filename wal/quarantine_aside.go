package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Aside is an entry that was put aside: moved to the quarantine, or left in its place if the move
// failed.
type Aside struct {
	Path string // relative to the data directory
	Why  string // the reason; empty for an entry of the quarantine, which may have a report
}

// aside lists the entries that were left in their places. The log ignores them until
// the next start.
type aside struct {
	mu          sync.Mutex // guards the fields below
	leftInPlace []Aside
	listed      []Aside // result of refreshAside: entries left in place, and entries of the quarantine
}

// add lists an entry. Only the first reason counts, because the log may try to move the
// entry again and again.
func (a *aside) add(one Aside) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.ContainsFunc(a.leftInPlace, func(other Aside) bool { return other.Path == one.Path }) {
		a.leftInPlace = append(a.leftInPlace, one)
	}
}

// list returns the result of the last refreshAside.
func (a *aside) list() []Aside {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.listed)
}

func (a *aside) unlist(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leftInPlace = slices.DeleteFunc(a.leftInPlace, func(one Aside) bool { return one.Path == path })
}

// reset discards the entries that a failed start has listed.
func (a *aside) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leftInPlace = nil
}

// refreshAside counts the entries that are put aside and not acknowledged. It unlists
// entries that do not exist any more.
func (b *base) refreshAside() (n int) {
	b.aside.mu.Lock()
	leftInPlace := slices.Clone(b.aside.leftInPlace)
	b.aside.mu.Unlock()
	var listed []Aside
	for _, one := range leftInPlace {
		info, err := b.disk.Stat(filepath.Join(b.dataDir, one.Path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			b.aside.unlist(one.Path)
		case err != nil || !b.isAcknowledged(one.Path, info):
			listed = append(listed, one)
		}
	}
	for _, name := range b.quarantineNames() {
		listed = append(listed, Aside{Path: filepath.Join("wal", quarantineName, name)})
	}
	b.aside.mu.Lock()
	defer b.aside.mu.Unlock()
	b.aside.listed = listed
	return len(listed)
}

// maxAside is the max number of entries that PutAside lists.
const maxAside = 100

// PutAside lists the entries that are put aside and not acknowledged, at most a
// hundred. The list is about a second old, so PutAside does not wait for the disk.
func (l *Log) PutAside() []Aside {
	all := l.aside.list()
	return all[:min(len(all), maxAside)]
}

// quarantineNames lists the names in the quarantine, without reports and acknowledged
// entries.
func (b *base) quarantineNames() (names []string) {
	entries, err := b.disk.List(filepath.Join(b.dir, quarantineName))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), reportSuffix) && (e.Name() != acknowledgedName || !e.IsDir()) {
			names = append(names, e.Name())
		}
	}
	return names
}

var (
	errInTheWay = errors.New("it was in the place of a part of the log")
	errNotPart  = errors.New("not part of a log")
)

// putAside moves to the quarantine an entry that can't be read or is in the way. If
// that fails, and the start tolerates it, the entry gets another name. If that fails
// too, the entry stays in its place.
func (b *base) putAside(path string, why error) error {
	err := b.quarantinePath(path)
	if err != nil && !b.tolerates(err) {
		return err
	}
	if _, errStat := b.disk.Stat(path); err == nil || errors.Is(errStat, fs.ErrNotExist) { // moved, perhaps not durably
		b.aside.unlist(b.relative(path))
		return nil
	}
	if !isAside(path) && b.disk.RenameDurably(path, b.asidePath(path)) == nil {
		path = b.asidePath(path)
	}
	b.listLeft(path, errors.Join(why, err))
	return nil
}

// asideMark is part of the name of an entry that was in the way and could not be moved
// to the quarantine. Each start tries to move it again.
const asideMark = ".aside-"

func isAside(path string) bool { return strings.Contains(filepath.Base(path), asideMark) }

// asidePath returns the name for an entry that can't be moved to the quarantine.
func (b *base) asidePath(path string) string {
	return fmt.Sprintf("%s%s%016x", path, asideMark, b.runID)
}

// listLeft lists an entry that stays in its place.
func (b *base) listLeft(path string, why error) { b.aside.add(Aside{b.relative(path), why.Error()}) }

// relative returns a path relative to the data directory, as the status shows it.
func (b *base) relative(path string) string {
	if rel, err := filepath.Rel(b.dataDir, path); err == nil {
		return rel
	}
	return path
}

// tolerates reports whether the start continues without the entry that err is about.
func (b *base) tolerates(err error) bool {
	if errors.Is(err, ErrVersion) { // the next attempt to start fails with it
		return false
	}
	return b.tolerance == skipAny || b.tolerance == skipPermanent && !isTransient(err)
}
