package wal

import (
	"errors"
	"io/fs"
	"path/filepath"

	"collectord/wal/vfs"
)

// The reserve is a file in lost/ that takes up disk space in advance. On a full disk it
// becomes the next note. The segment that the note is about can then be evicted, which
// frees space.
const (
	reserveName = "reserve"
	reserveSize = 4096 // bytes; more than a note takes
)

// writeNote writes the file of a note durably. On a full disk it uses the reserve.
func writeNote(d vfs.Disk, dir string, n LossNote) error {
	path, reserve := filepath.Join(dir, n.fileName()), filepath.Join(dir, reserveName)
	writeErr := d.WriteFileDurably(path, n.encode())
	if errors.Is(writeErr, fs.ErrNotExist) { // the start could not create the directory
		writeErr = d.MkdirDurably(dir)
		if writeErr == nil {
			writeErr = d.WriteFileDurably(path, n.encode())
		}
	}
	if writeErr == nil {
		ensureReserve(d, reserve)
		return nil
	}
	if !vfs.IsFull(writeErr) {
		return writeErr
	}
	file, err := d.OpenWritable(reserve)
	if err != nil {
		return errors.Join(writeErr, err)
	}
	content := n.encode()
	_, err = file.WriteAt(content, 0)
	err = vfs.Finish(file, errors.Join(err, file.Truncate(int64(len(content)))))
	if err != nil {
		return errors.Join(writeErr, err)
	}
	return d.RenameDurably(reserve, path)
}

// deleteReplacedNote deletes a note that another one includes. If the reserve is used
// up, it renames the file to the reserve instead, since on a full disk another program
// could take the freed space. It writes to the file only once the new name is durable:
// otherwise a crash would leave a damaged note.
func deleteReplacedNote(d vfs.Disk, dir string, n LossNote) error {
	path, reserve := filepath.Join(dir, n.fileName()), filepath.Join(dir, reserveName)
	if _, err := d.Stat(reserve); errors.Is(err, fs.ErrNotExist) {
		if _, err := renameOrUndo(d, path, reserve); err != nil {
			return err
		}
		ensureReserve(d, reserve)
		return nil
	}
	return d.Remove(path)
}

// ensureReserve creates the reserve if the disk has enough space.
func ensureReserve(d vfs.Disk, path string) {
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
