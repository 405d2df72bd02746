package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Find finds a segment by name or path. A name is that of a directory of the log in
// dataDir, as in Entry.Name, or of an entry of its quarantine. A path leads to a
// directory or file, which may be part of another log or of none. Find follows symbolic
// links. If the segment's name gives a range of seqs, only records of that range belong
// to it; otherwise all records of the file do.
func Find(dataDir, name string) (*Inspector, Entry, error) {
	dir := filepath.Join(dataDir, "wal")
	isName := filepath.Base(name) == name && name != "." && name != ".."
	if isName {
		for _, parent := range []string{dir, filepath.Join(dir, quarantineName), filepath.Join(dir, quarantineName, acknowledgedName)} {
			place := filepath.Join(parent, name)
			if _, err := os.Lstat(place); err == nil {
				return entryForPath(dataDir, place)
			}
		}
	}
	place, err := filepath.Abs(name)
	if err != nil {
		return nil, Entry{}, err
	}
	i, e, err := entryForPath(dataDirOf(place), place)
	if errors.Is(err, fs.ErrNotExist) && isName {
		err = fmt.Errorf("there is no segment %q in %s or its quarantine, and no file of that name", name, dir)
	}
	return i, e, err
}

// entryForPath returns an entry for the directory or file at place, which may be part
// of the log in dataDir.
func entryForPath(dataDir, place string) (*Inspector, Entry, error) {
	path, err := filepath.EvalSymlinks(place)
	if err != nil {
		return nil, Entry{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, Entry{}, err
	}
	i, err := Inspect(dataDir)
	if err != nil {
		i = &Inspector{disk: vfs.OSDisk()} // the file is part of no log
	}
	return i, i.entryAt(path, filepath.Base(place), info.IsDir()), nil
}

// dataDirOf returns the data directory of the log that would contain path.
func dataDirOf(path string) string {
	dir := filepath.Dir(path)
	for filepath.Base(dir) != "wal" && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	return filepath.Dir(dir)
}

// nameInQuarantine matches the text that a move to the quarantine appends to the name
// of a directory.
var nameInQuarantine = regexp.MustCompile(`-[0-9a-f]{16}(-[0-9]+)?$`)

// entryAt returns an entry for the directory or file at path.
func (i *Inspector) entryAt(path, name string, isDir bool) Entry {
	dir, file := path, filepath.Join(path, segment.FileName)
	if !isDir {
		dir, file = filepath.Dir(path), path
		if name == segment.FileName {
			name = filepath.Base(dir)
		}
	}
	e, ok := entryOf(nameInQuarantine.ReplaceAllString(name, ""))
	if !ok {
		e = Entry{}
	}
	e.Name = name
	if ok && file == filepath.Join(dir, segment.FileName) && filepath.Base(dir) == name && i.contains(dir) {
		return e // without a path, since it may be renamed meanwhile
	}
	i.live = false // no daemon writes to this file
	e.State, e.file = "", file
	return e
}

// contains reports whether dir is in the inspected log directory.
func (i *Inspector) contains(dir string) bool {
	parent, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return false
	}
	own, err := os.Stat(i.dir)
	return err == nil && os.SameFile(parent, own)
}
