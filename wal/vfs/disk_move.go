package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// MovingSuffix ends the name of a directory to which files are moved on their way to
// another name.
const MovingSuffix = ".moving"

// moveDir makes a directory anew and gives it the other name: an overlay does not rename a
// directory of a lower layer (EXDEV). Until that is decided the files are in the directory
// or in FROM.moving, and UndoMoves brings them back. refused is the error of rename(2), and
// is returned if this fails, too.
func (d Disk) moveDir(from, to string, refused error) error {
	temp := from + MovingSuffix
	if strings.HasSuffix(from, MovingSuffix) {
		return refused
	}
	if entries, err := d.List(from); err == nil && len(entries) == 0 { // an interruption may leave both names
		return d.moveFiles(from, to)
	}
	if err := d.moveFiles(from, temp); err != nil {
		return errors.Join(refused, err)
	}
	err := d.SyncDir(filepath.Dir(from)) // otherwise both names may be there after a crash
	if err == nil {
		err = d.FS.Rename(temp, to)
	}
	if errors.Is(err, syscall.EXDEV) && filepath.Dir(from) != filepath.Dir(to) {
		err = d.moveFiles(temp, to)
	}
	if err != nil {
		return errors.Join(refused, err, d.FS.Rename(temp, from))
	}
	return nil
}

// moveFiles moves the files of a directory to another one, which it makes, and deletes the
// first. The files are durable there. It replaces none. After an error they are where they
// were.
func (d Disk) moveFiles(from, to string) error {
	entries, err := d.List(from)
	if err != nil {
		return err
	}
	if err := d.Mkdir(to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err = d.SyncDir(filepath.Dir(to))
	moved := 0
	for _, e := range entries {
		if err == nil {
			if err = d.moveFile(from, to, e.Name()); err == nil {
				moved++
			}
		}
	}
	if err == nil {
		err = d.SyncDir(to)
	}
	if err == nil {
		err = d.RemoveDir(from)
	}
	if err != nil {
		for _, e := range entries[:moved] {
			err = errors.Join(err, d.moveFile(to, from, e.Name()))
		}
		return errors.Join(err, d.SyncDir(from), d.RemoveDir(to))
	}
	return nil
}

// moveFile moves a file of a directory to another one, unless that has one of the name.
func (d Disk) moveFile(from, to, name string) error {
	old, place := filepath.Join(from, name), filepath.Join(to, name)
	switch _, err := d.Stat(place); {
	case err == nil:
		return &os.LinkError{Op: "rename", Old: old, New: place, Err: syscall.EEXIST}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return d.FS.Rename(old, place)
}

// UndoMoves brings back the files of the directories in dir that were being moved when the
// process or the host ended.
func (d Disk) UndoMoves(dir string) error {
	entries, err := d.List(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, moving := strings.CutSuffix(e.Name(), MovingSuffix)
		if !moving || !e.IsDir() {
			continue
		}
		temp, from := filepath.Join(dir, e.Name()), filepath.Join(dir, name)
		// If it is empty its files were moved on, perhaps not durably yet, or never came.
		if d.SyncDir(temp) == nil && d.RemoveDir(temp) == nil {
			continue
		}
		info, err := d.Stat(from)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = d.RenameDurably(temp, from)
		case err == nil && info.IsDir():
			err = d.moveBack(temp, from)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moveBack moves the files of a directory to another one, unless that has one of the name.
func (d Disk) moveBack(from, to string) error {
	entries, err := d.List(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := d.Stat(filepath.Join(to, e.Name())); err == nil {
			return nil // this is not what was moved
		}
	}
	for _, e := range entries {
		if err := d.moveFile(from, to, e.Name()); err != nil {
			return err
		}
	}
	return errors.Join(d.SyncDir(to), d.RemoveDir(from))
}
