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

// Find finds a segment by what an operator has: the name of a directory of the log in
// dataDir, as in Entry.Name, or of something in its quarantine, or a path to a
// directory or file, also of another log or of none. Symbolic links are followed. All
// records of a file belong to the segment unless its name says which do.
func Find(dataDir, name string) (*Inspector, Entry, error) {
	dir := filepath.Join(dataDir, "wal")
	isName := filepath.Base(name) == name && name != "." && name != ".."
	if isName {
		for _, parent := range []string{dir, filepath.Join(dir, quarantineName)} {
			place := filepath.Join(parent, name)
			if _, err := os.Lstat(place); err == nil {
				return find(dataDir, place)
			}
		}
	}
	place, err := filepath.Abs(name)
	if err != nil {
		return nil, Entry{}, err
	}
	i, e, err := find(dataDirOf(place), place)
	if errors.Is(err, fs.ErrNotExist) && isName {
		err = fmt.Errorf("there is no segment %q in %s or its quarantine, and no file of that name", name, dir)
	}
	return i, e, err
}

// find makes an entry of what is at place, which may be part of the log in dataDir.
func find(dataDir, place string) (*Inspector, Entry, error) {
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

// dataDirOf is the data directory of the log that path is part of, if it is.
func dataDirOf(path string) string {
	dir := filepath.Dir(path)
	for filepath.Base(dir) != "wal" && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	return filepath.Dir(dir)
}

// nameInQuarantine is what moving a directory to the quarantine appends to its name.
var nameInQuarantine = regexp.MustCompile(`-[0-9a-f]{16}(-[0-9]+)?$`)

// entryAt makes an entry of the directory or file at path.
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
		return e // by its name, since it may be renamed meanwhile
	}
	i.live = false // no daemon writes to it
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
