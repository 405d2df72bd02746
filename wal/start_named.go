package wal

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// named is a segment directory as its name tells it. The name is not believed
// where its first frame or its neighbours contradict: a wrong digit would hide
// records, or make them look like those of another segment.
type named struct {
	name         string
	first, last  uint64 // last is 0 if it is not sealed
	begins       uint64 // seq of the first frame if that can be read, else first
	sealed       bool
	sound        bool          // the name tells a range
	fits         bool          // it does, and the first frame is where it says
	link         bool          // a symbolic link, which is not followed
	noFirstFrame bool          // its first frame tells nothing: it is damaged, or the disk does not give it
	run          uint64        // of the header, if that can be read
	scan         *segment.Scan // what its file holds, once it was read
	failed       error         // why its file could not be read
}

func (b *base) fileOf(name string) string { return filepath.Join(b.dir, name, segment.FileName) }

// look reads the beginning of a segment.
func (l *Log) peek(s *named) {
	s.begins = s.first
	if s.link {
		return
	}
	start, err := segment.Peek(l.disk, l.fileOf(s.name))
	if err != nil {
		s.failed = l.openFailure(s, err)
	}
	s.run, s.noFirstFrame = start.Run, start.FirstSeq == 0
	if !s.noFirstFrame {
		s.begins = start.FirstSeq
		s.fits = s.sound && s.sealed && s.begins == s.first
	}
}

// openFailure returns why the file of a segment can't be opened, if somebody has to
// see to that: a link, or a file of another user. The place of a file where no
// bytes can be is that of a file that is missing.
func (l *Log) openFailure(s *named, err error) error {
	info, errStat := l.disk.Stat(l.fileOf(s.name))
	switch {
	case errors.Is(err, vfs.ErrNotRegular) && errStat == nil && !vfs.IsLink(info), errors.Is(err, fs.ErrNotExist):
		return fs.ErrNotExist
	case vfs.IsUnreadable(err):
		return nil
	}
	return err
}

// read scans the whole file, once.
func (l *Log) read(s *named) *segment.Scan {
	if s.scan == nil && s.failed == nil {
		if s.link {
			s.failed = vfs.ErrNotRegular
		} else if s.scan, s.failed = l.scanAll(s.name); s.failed == nil && s.scan.Missing {
			s.scan, s.failed = nil, fs.ErrNotExist
		}
	}
	return s.scan
}

// right is the name that a segment should have.
func (s *named) right() string {
	if !s.sealed {
		return segment.ActiveName(s.first)
	}
	return segment.SealedName(s.first, s.last)
}

func withoutNamed(all []*named, one *named) []*named {
	return slices.DeleteFunc(slices.Clone(all), func(s *named) bool { return s == one })
}
