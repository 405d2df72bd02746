package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"collectord/wal/vfs"
)

// disk is the file system below the log directory, with the steps that take more
// than one call. Its zero value is the operating system's.
type disk struct {
	files vfs.FS // nil: the operating system's
	// before is asked ahead of each call that changes something, by tests that let
	// one fail or look at what was done so far; it may be nil.
	before func(op, path string) error
	read   readAt // nil: that of the file
	// newWriter makes the file of a segment in an empty directory; nil: the
	// underlying log's, which needs the operating system's files.
	newWriter func(dir string) (entryWriter, error)
}

func (d disk) fs() vfs.FS {
	if d.files == nil {
		return vfs.OS{}
	}
	return d.files
}

func (d disk) reader() readAt {
	if d.read == nil {
		return vfs.File.ReadAt
	}
	return d.read
}

func (d disk) ask(op, path string) error {
	if d.before == nil {
		return nil
	}
	if err := d.before(op, path); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// syncDir makes the names in dir durable.
func (d disk) syncDir(dir string) error {
	if err := d.ask("fsync", dir); err != nil {
		return err
	}
	return d.fs().SyncDir(dir)
}

func (d disk) readDir(dir string) ([]fs.DirEntry, error) {
	if err := d.ask("readdir", dir); err != nil {
		return nil, err
	}
	return d.fs().List(dir)
}

// open opens a file that is there to write to it.
func (d disk) open(path string) (vfs.File, error) {
	if err := d.ask("open", path); err != nil {
		return nil, err
	}
	return d.fs().OpenWritable(path)
}

// create makes a file to write to it. One that is there is an error.
func (d disk) create(path string) (vfs.File, error) {
	if err := d.ask("open", path); err != nil {
		return nil, err
	}
	return d.fs().Create(path)
}

// finish syncs and closes a file, whatever err says of what was written to it.
func (d disk) finish(f vfs.File, err error) error {
	if err == nil {
		err = d.ask("write", f.Name())
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (d disk) rename(from, to string) error {
	if err := d.ask("rename", from); err != nil {
		return err
	}
	if info, err := d.fs().Stat(to); err == nil && info.IsDir() {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EEXIST}
	}
	return d.move(from, to)
}

// replace is rename, but takes the place of an empty directory.
func (d disk) replace(from, to string) error {
	if err := d.ask("rename", from); err != nil {
		return err
	}
	return d.move(from, to)
}

// move is rename(2). One that took effect though it returned an error is none: the
// next attempt would not find what it is to rename.
func (d disk) move(from, to string) error {
	err := d.fs().Rename(from, to)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, errFrom := d.fs().Stat(from)
	if _, errTo := d.fs().Stat(to); errors.Is(errFrom, fs.ErrNotExist) && errTo == nil {
		return nil
	}
	return err
}

func (d disk) link(from, to string) error {
	if err := d.ask("link", to); err != nil {
		return err
	}
	return d.fs().Link(from, to)
}

func (d disk) unlink(path string) error {
	if err := d.ask("unlink", path); err != nil {
		return err
	}
	return d.fs().Remove(path)
}

func (d disk) mkdir(path string) error {
	if err := d.ask("mkdir", path); err != nil {
		return err
	}
	return d.fs().Mkdir(path)
}

func (d disk) truncate(path string, size int64) error {
	if err := d.ask("truncate", path); err != nil {
		return err
	}
	f, err := d.fs().OpenWritable(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// renameDurably renames within one directory and makes the new name durable.
func (d disk) renameDurably(from, to string) error {
	if err := d.rename(from, to); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(to))
}

// writeFileDurably replaces path as a whole, or not at all.
func (d disk) writeFileDurably(path string, content []byte) error {
	temp := path + ".tmp"
	f, err := d.create(temp)
	if errors.Is(err, fs.ErrExist) { // of an interrupted write
		if err := d.unlink(temp); err != nil {
			return err
		}
		f, err = d.create(temp)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err = d.finish(f, err); err != nil {
		return err
	}
	return d.renameDurably(temp, path)
}

// makeDirDurably is MkdirAll for one level whose parent may be missing too.
func (d disk) makeDirDurably(dir string) error {
	if err := d.ask("mkdir", dir); err != nil {
		return err
	}
	if err := d.makeDir(dir); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(dir))
}

func (d disk) makeDir(dir string) error {
	err := d.fs().Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := d.makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = d.fs().Mkdir(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // or it is no directory, as the next call will find
	}
	return err
}

// errNotRegular is of what has the name of a file and is something else.
var errNotRegular = errors.New("it is not a regular file, or behind a symbolic link: put the file in its place")

// openRegular opens a file to read it. A link, or anything that is not a regular
// file, is an error, and so is a segment's directory that is a link.
func (d disk) openRegular(path string) (vfs.File, error) {
	if info, err := d.fs().Stat(filepath.Dir(path)); err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: errNotRegular}
	}
	file, err := d.fs().Open(path)
	if errors.Is(err, vfs.ErrNotRegular) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	return file, err
}

// isFull reports whether err says that a disk, or a quota, has no room.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// isTrouble reports whether err may pass by itself, or once somebody frees room.
func isTrouble(err error) bool { return isFull(err) || errors.Is(err, syscall.EIO) }

// lock takes the lock of a data directory. It is held until it is closed or the
// process ends, however it ends.
func (d disk) lock(dir string) (io.Closer, error) {
	held, err := d.fs().Lock(filepath.Join(dir, "LOCK"))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := d.readFile(filepath.Join(dir, "LOCK")) // a courtesy
		return nil, fmt.Errorf("%s is in use by another collectord (process %s): stop it, or give this one a data_dir of its own",
			dir, strings.TrimSpace(string(holder)))
	}
	return held, err
}

// hasOtherNames reports whether a file is found elsewhere too, so that it must not
// be cut.
func (d disk) hasOtherNames(path string) bool {
	info, err := d.fs().Stat(path)
	return err == nil && vfs.Names(info) > 1
}

func (d disk) sameFile(a, b string) bool {
	left, errLeft := d.fs().Stat(a)
	right, errRight := d.fs().Stat(b)
	return errLeft == nil && errRight == nil && vfs.SameFile(left, right)
}

// sizeOnDisk is the share of a file's size that each of its names counts for.
func sizeOnDisk(info fs.FileInfo) int64 { return info.Size() / max(1, vfs.Names(info)) }

// sizeOf adds up the regular files below dir. What vanishes meanwhile, and a dir
// that does not exist, counts nothing.
func (d disk) sizeOf(dir string) (total int64) {
	entries, err := d.fs().List(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		switch {
		case e.IsDir():
			total += d.sizeOf(filepath.Join(dir, e.Name()))
		case e.Type().IsRegular():
			if info, err := e.Info(); err == nil {
				total += sizeOnDisk(info)
			}
		}
	}
	return total
}
