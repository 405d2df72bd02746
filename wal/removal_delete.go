package wal

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"collectord/wal/segment"
)

// deleteGone deletes the segment's directory. If no other name gives the next seq, it
// deletes only the file and keeps the directory as a tombstone.
func (s *shelf) deleteGone(d *removal) error {
	s.lock()
	newest := d.last+1 >= s.active.nextSeq // then only the name of an active segment gives a higher seq
	keep := !s.active.open && newest
	if keep {
		s.addTombstoneLocked(d.dir)
	}
	s.unlock()
	if !keep {
		if newest { // the active segment's name may not be durable yet
			if err := s.disk.SyncDir(s.dir); err != nil {
				return err
			}
		}
		return s.deleteDir(d.dir)
	}
	if err := s.emptyTombstone(d.dir); err != nil {
		return err
	}
	d.isTombstone = true
	return nil
}

// deleteDir deletes a segment's file and its directory. If the directory has other
// entries, it is put aside with them. deleteDir may be repeated: it ignores a directory
// that does not exist.
func (b *base) deleteDir(dir string) error {
	err := b.disk.RemoveIn(dir, segment.FileName)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = b.disk.RemoveDir(dir)
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR),
		errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		b.reportFinding(FoundStray, slog.LevelWarn, "put aside an entry that is not part of a log: it was in the directory of a removed segment",
			"path", dir)
		return b.putAside(dir, err)
	}
	return err
}

// markDirGone renames a directory to .gone, durably, and replaces an earlier one of
// that name. All records of the directory must also be elsewhere. markDirGone may be repeated
// after an error.
func (b *base) markDirGone(dir string) error {
	parent, gone := filepath.Dir(dir), dir+goneSuffix
	err := b.disk.Rename(dir, gone)
	if errors.Is(err, fs.ErrExist) { // an interrupted removal left a directory with a file
		if err := errors.Join(b.disk.SyncDir(parent), b.deleteDir(gone)); err != nil {
			return err
		}
		err = b.disk.Rename(dir, gone)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := b.disk.Stat(gone); err == nil {
			return b.disk.SyncDir(parent) // renamed by an earlier attempt
		}
	}
	if err != nil {
		return err
	}
	return b.disk.SyncDir(parent)
}
