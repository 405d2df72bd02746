package wal

import (
	"errors"
	"io/fs"
	"path/filepath"

	"collectord/wal/vfs"
)

// reserveName is a file in the directory of the loss notes whose room on the
// disk is taken ahead: even on a full disk one more note can be made, and so
// room by evicting what it stands for.
const (
	reserveName = "reserve"
	reserveSize = 4096 // more than a note
)

// writeNote makes the file of a note, if need be of the reserve.
func writeNote(d vfs.Disk, dir string, n LossNote) error {
	path, reserve := filepath.Join(dir, n.file()), filepath.Join(dir, reserveName)
	full := d.WriteFileDurably(path, n.encode())
	if errors.Is(full, fs.ErrNotExist) { // a start could not make the directory
		full = d.MkdirDurably(dir)
		if full == nil {
			full = d.WriteFileDurably(path, n.encode())
		}
	}
	if full == nil {
		stockReserve(d, reserve)
		return nil
	}
	if !vfs.IsFull(full) {
		return full
	}
	_ = d.Remove(path + ".tmp") // what there is of it
	file, err := d.OpenWritable(reserve)
	if err != nil {
		return errors.Join(full, err)
	}
	content := n.encode()
	_, err = file.WriteAt(content, 0)
	err = vfs.Finish(file, errors.Join(err, file.Truncate(int64(len(content)))))
	if err != nil {
		return errors.Join(full, err)
	}
	return d.RenameDurably(reserve, path)
}

// deleteReplacedNote deletes a note that another stands for. Its room is the reserve's,
// should that have been spent: nobody else gets it on a full disk.
func deleteReplacedNote(d vfs.Disk, dir string, n LossNote) error {
	path, reserve := filepath.Join(dir, n.file()), filepath.Join(dir, reserveName)
	if _, err := d.Stat(reserve); errors.Is(err, fs.ErrNotExist) {
		if err := d.RenameNew(path, reserve); err != nil {
			return err
		}
		stockReserve(d, reserve)
		return nil
	}
	return d.Remove(path)
}

// stockReserve takes room for the reserve, if there is some.
func stockReserve(d vfs.Disk, path string) {
	if info, err := d.Stat(path); err == nil && info.Size() == reserveSize {
		return
	}
	file, err := d.Create(path)
	if errors.Is(err, fs.ErrExist) {
		file, err = d.OpenWritable(path)
	}
	if err != nil {
		return
	}
	_, err = file.WriteAt(make([]byte, reserveSize), 0)
	if err = errors.Join(err, file.Close()); err != nil {
		_ = d.Remove(path)
	}
}
