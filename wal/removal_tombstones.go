package wal

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// addTombstoneLocked lists a directory that is kept because its name gives the next
// seq.
func (s *shelf) addTombstoneLocked(dir string) {
	if !slices.Contains(s.tombstones, dir) {
		s.tombstones = append(s.tombstones, dir)
	}
}

// makeTombstone deletes the file of a segment directory and renames the directory to
// .gone. It is kept until the name of an active segment gives the next seq.
func (s *shelf) makeTombstone(dir string) error {
	s.lock()
	s.addTombstoneLocked(dir + goneSuffix)
	s.unlock()
	if err := s.markDirGone(dir); err != nil {
		return err
	}
	return s.emptyTombstone(dir + goneSuffix)
}

// clearActive puts aside the entry that has the name of the active segment. Meanwhile
// the name of an empty .gone directory gives the next seq.
func (s *shelf) clearActive(dir string) error {
	gone := dir + goneSuffix
	if err := s.disk.MkdirDurably(gone); err != nil {
		return err
	}
	s.lock()
	s.addTombstoneLocked(gone)
	s.unlock()
	return s.putAside(dir, errInTheWay)
}

// emptyTombstone deletes the file in a directory that is kept for its name. If LOG
// could not be written, it keeps the header, which contains the log id.
func (b *base) emptyTombstone(dir string) error {
	path := filepath.Join(dir, segment.FileName)
	if info, err := b.disk.Stat(path); err == nil && b.identityUnsaved && info.Mode().IsRegular() && vfs.LinkCount(info) == 1 {
		return b.disk.Truncate(path, min(info.Size(), segment.MaxHeader))
	}
	if err := b.disk.RemoveIn(dir, segment.FileName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// deleteTombstones deletes the directories that were kept for their names, once the
// name of an active segment is durable. After an error it returns false and schedules a
// retry.
func (s *shelf) deleteTombstones() bool {
	s.lock()
	var names []string
	if s.active.open {
		names, s.tombstones = s.tombstones, nil
	}
	s.tombstonesFailed = false
	s.unlock()
	if len(names) == 0 {
		return true
	}
	err := s.disk.SyncDir(s.dir) // the name of the active segment
	for err == nil && len(names) > 0 {
		if err = s.deleteDir(names[0]); err == nil {
			names = names[1:]
		}
	}
	if err == nil {
		return true
	}
	s.lock()
	for _, name := range names {
		s.addTombstoneLocked(name)
	}
	s.tombstonesFailed = true
	s.retryLaterLocked()
	s.unlock()
	s.wakeUp()
	s.opts.Logger.Warn("can't delete the directories of removed segments: this is tried again", "trouble", "removal", "error", err)
	return false
}
