package wal

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// named is a segment directory and what its name claims. A start does not trust a name that
// the segment's first frame or its neighbours contradict: a wrong digit would hide records,
// or claim those of another segment.
type named struct {
	name         string
	first, last  uint64 // last is 0 if it is not sealed
	begins       uint64 // seq of the first frame, or first if the frame can't be read
	sealed       bool
	sound        bool          // the name is well formed
	replaced     bool          // other bytes overwrote it: they belong to a segment that is not there
	fits         bool          // the name is a sealed one, and the first frame has the seq first
	link         bool          // a symbolic link, which is not followed
	plain        bool          // a file instead of a directory
	noFirstFrame bool          // the first frame is damaged, or the disk can't read it
	run          uint64        // from the header; 0 if the header can't be read
	scan         *segment.Scan // of its file, once the file was read
	failed       error         // why its file can't be read
}

// fileOf returns the path of the file in the segment directory with that name.
func (b *base) fileOf(name string) string { return filepath.Join(b.dir, name, segment.FileName) }

// peek reads the header and the first frame's header.
func (l *Log) peek(s *named) {
	s.begins = s.first
	if s.link {
		return
	}
	if s.plain {
		s.noFirstFrame, s.failed = true, fs.ErrNotExist
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

// openFailure returns why a segment's file can't be opened if an administrator has to act:
// it is a link, or belongs to another user. It returns fs.ErrNotExist for a directory,
// FIFO, socket or device in place of the file, because these can't contain records. It
// returns nil if the disk failed.
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

// unread returns the error of the pages of the file that the disk could not read. It is nil
// if there are none, or if the file has not been scanned.
func (s *named) unread() error {
	if s.scan == nil || s.scan.Unread == nil {
		return nil
	}
	return s.scan.Unread
}

// read scans the whole file, at most once. It returns nil if the file can't be read.
func (l *Log) read(s *named) *segment.Scan {
	if s.scan == nil && s.failed == nil {
		if s.link {
			s.failed = vfs.ErrNotRegular
		} else if s.plain {
			s.failed = fs.ErrNotExist
		} else if s.scan, s.failed = l.scanAll(s.name); s.failed == nil && s.scan.Missing {
			s.scan, s.failed = nil, fs.ErrNotExist
		}
	}
	return s.scan
}

// right is the name that matches the segment's records.
func (s *named) right() string {
	if !s.sealed {
		return segment.ActiveName(s.first)
	}
	return segment.SealedName(s.first, s.last)
}

func withoutNamed(all []*named, one *named) []*named {
	return slices.DeleteFunc(slices.Clone(all), func(s *named) bool { return s == one })
}
