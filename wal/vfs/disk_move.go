package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// MovingSuffix ends the name of the directory that has the files during a move.
const MovingSuffix = ".moving"

// moveDir renames a directory by moving its files to a new one, because an overlay file
// system does not rename a directory of a lower layer (EXDEV). During the move the files
// are in from or in from.moving, and UndoMoves brings them back after an interruption.
// renameErr is the error of rename(2); moveDir includes it in its own error.
func (d Disk) moveDir(from, to string, renameErr error) error {
	temp := from + MovingSuffix
	if strings.HasSuffix(from, MovingSuffix) {
		return renameErr
	}
	if entries, err := d.List(from); err == nil && len(entries) == 0 { // an interruption may have left both names
		return d.moveFiles(from, to)
	}
	if err := d.moveFiles(from, temp); err != nil {
		return errors.Join(renameErr, err)
	}
	err := d.SyncDir(filepath.Dir(from)) // without this sync a crash may leave both names
	if err == nil {
		err = d.FS.Rename(temp, to)
	}
	if errors.Is(err, syscall.EXDEV) && filepath.Dir(from) != filepath.Dir(to) {
		err = d.moveFiles(temp, to)
	}
	if err != nil {
		return errors.Join(renameErr, err, d.FS.Rename(temp, from))
	}
	return nil
}

// moveFiles moves the files of a directory to another one, durably, and deletes the first
// directory. It creates the second one if needed, and replaces no file. After an error it
// moves the files back.
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

// moveFile moves a file to another directory, unless that has a file of the same name.
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

// UndoMoves moves files back to their directories in dir if the end of the process or the
// host has interrupted their move.
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
		// An empty directory is left from a move that was completed, perhaps not durably,
		// or that had moved no file.
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

// moveBack moves the files of a directory to another one, unless that has a file of the
// same name.
func (d Disk) moveBack(from, to string) error {
	entries, err := d.List(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := d.Stat(filepath.Join(to, e.Name())); err == nil {
			return nil // the files were not moved from this directory
		}
	}
	for _, e := range entries {
		if err := d.moveFile(from, to, e.Name()); err != nil {
			return err
		}
	}
	return errors.Join(d.SyncDir(to), d.RemoveDir(from))
}
