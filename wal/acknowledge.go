package wal

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// acknowledgedName is the directory in the quarantine for what an operator has
// acknowledged. It is kept there and no longer counted as put aside. For an entry that
// was left in its place, the directory holds a mark, which is a file (markOf).
const acknowledgedName = "acknowledged"

// markOf returns the name of the mark of an entry that was left in its place. The name
// depends on the path and the inode, so a later entry at the same path has another
// mark.
func markOf(path string, info fs.FileInfo) string {
	ino := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		ino = st.Ino
	}
	return fmt.Sprintf("left-%.16x", sha256.Sum256(fmt.Appendf(nil, "%d %s", ino, path)))
}

// PutAside lists what an Inspector can find without the daemon: the contents of the
// quarantine, and entries of the log's directories that are not part of a log.
func (i *Inspector) PutAside() (all []Aside, err error) {
	b := base{disk: i.disk, dir: i.dir, dataDir: filepath.Dir(i.dir)}
	entries, err := b.disk.List(i.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		_, ok := entryOf(e.Name())
		switch e.Name() {
		case identityName, identityName + ".tmp", quarantineName, lostName, salvageName:
			ok = true
		}
		if !ok {
			b.listLeft(filepath.Join(i.dir, e.Name()), errNotPart)
		}
	}
	i.listLeftIn(&b, b.dataDir, func(e fs.DirEntry) bool { return isAside(e.Name()) })
	lost := filepath.Join(i.dir, lostName)
	i.listLeftIn(&b, lost, func(e fs.DirEntry) bool {
		if isAside(e.Name()) || !e.Type().IsRegular() {
			return true
		}
		_, err := i.disk.ReadFile(filepath.Join(lost, e.Name()))
		return err != nil && !errors.Is(err, fs.ErrNotExist)
	})
	b.refreshAside()
	return b.aside.list(), nil
}

// listLeftIn lists the entries of dir that isLeft accepts. Nothing is listed if dir can't be
// read.
func (i *Inspector) listLeftIn(b *base, dir string, isLeft func(fs.DirEntry) bool) {
	entries, err := i.disk.List(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if isLeft(e) {
			b.listLeft(filepath.Join(dir, e.Name()), errNotPart)
		}
	}
}

// Acknowledge records that an operator has seen what was put aside. Without names it
// acknowledges all that Inspector.PutAside lists. A name is a path as in Log.PutAside,
// or the name of an entry of the quarantine or of the log directory. Acknowledge moves
// an entry of the quarantine to a directory there; it deletes nothing and needs no
// lock. It returns the paths of what it has acknowledged.
func Acknowledge(dataDir string, names ...string) (done []string, err error) {
	i, err := Inspect(dataDir)
	if err != nil {
		return nil, err
	}
	b := &base{disk: i.disk, dir: i.dir, dataDir: dataDir}
	if len(names) == 0 {
		all, err := i.PutAside()
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			names = append(names, one.Path)
		}
	}
	var errs []error
	for _, name := range names {
		path, err := b.findAside(name)
		if err == nil {
			err = b.acknowledge(path)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, b.relative(path))
	}
	return done, errors.Join(errs...)
}

// findAside returns the path of the entry with a name. It looks in the quarantine, in
// the log directory, and in the data directory.
func (b *base) findAside(name string) (path string, err error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q is not a path in %s", name, b.dataDir)
	}
	for _, parent := range []string{filepath.Join(b.dir, quarantineName), b.dir, b.dataDir} {
		path = filepath.Join(parent, name)
		if _, err = b.disk.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("nothing of the name %q is put aside: %w", name, err)
}

// acknowledge moves an entry of the quarantine, with its report, to the directory of
// acknowledged ones. Any other entry gets a mark.
func (b *base) acknowledge(path string) error {
	quarantine := filepath.Join(b.dir, quarantineName)
	seen := filepath.Join(quarantine, acknowledgedName)
	switch path {
	case b.dir, quarantine, seen:
		return fmt.Errorf("%s is part of the log", path)
	}
	if err := b.disk.MkdirDurably(seen); err != nil {
		return err
	}
	if filepath.Dir(path) != quarantine {
		info, err := b.disk.Stat(path)
		if err != nil {
			return err
		}
		return b.disk.WriteFileDurably(filepath.Join(seen, markOf(b.relative(path), info)), fmt.Appendf(nil, "%q\n", b.relative(path)))
	}
	to := filepath.Join(seen, filepath.Base(path))
	for n := 2; ; n++ {
		if _, err := b.disk.Stat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		to = filepath.Join(seen, fmt.Sprintf("%s-%d", filepath.Base(path), n))
	}
	// The report moves first, since only the entry itself counts as put aside: a crash
	// in between leaves it counted.
	report := strings.TrimSuffix(path, ".bin") + reportSuffix
	if _, err := b.disk.Stat(report); err == nil && report != path {
		if err := b.disk.Rename(report, strings.TrimSuffix(to, ".bin")+reportSuffix); err != nil {
			return err
		}
	}
	if err := b.disk.RenameDurably(path, to); err != nil {
		return err
	}
	return b.disk.SyncDir(quarantine)
}

// reportSuffix ends the file name of a report about an entry of the quarantine.
const reportSuffix = ".txt"

// isAcknowledged reports whether an entry that was left in its place has a mark.
func (b *base) isAcknowledged(path string, info fs.FileInfo) bool {
	_, err := b.disk.Stat(filepath.Join(b.dir, quarantineName, acknowledgedName, markOf(path, info)))
	return err == nil
}

// CountAcknowledged returns how many entries of the quarantine were acknowledged.
func (i *Inspector) CountAcknowledged() (n int) {
	entries, err := os.ReadDir(filepath.Join(i.dir, quarantineName, acknowledgedName))
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), reportSuffix) && !strings.HasPrefix(e.Name(), "left-") {
			n++
		}
	}
	return n
}
