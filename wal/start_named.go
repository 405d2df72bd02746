package wal

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// foundDir is a segment directory and what its name claims. A start does not trust a
// name that the segment's first frame or its neighbours contradict: a wrong digit would
// hide records, or claim those of another segment.
type foundDir struct {
	name          string
	first, last   uint64 // last is 0 if it is not sealed
	firstFrameSeq uint64 // seq of the first frame, or first if the frame can't be read
	sealed        bool
	validName     bool          // the name is well formed
	overwritten   bool          // the disk wrote records of another segment over the file, so the seqs of the name stay valid
	nameFitsFrame bool          // the segment is sealed, and its first frame begins at the first seq of the name
	isLink        bool          // a symbolic link, which is not followed
	isFile        bool          // a file instead of a directory
	noFirstFrame  bool          // the first frame is damaged, or the disk can't read it
	run           uint64        // from the header; 0 if the header can't be read
	scan          *segment.Scan // of its file, once the file was read
	fileError     error         // why its file can't be read
}

// fileOf returns the path of the file in the segment directory with that name.
func (b *base) fileOf(name string) string { return filepath.Join(b.dir, name, segment.FileName) }

// peek reads the header and the first frame's header.
func (l *Log) peek(s *foundDir) {
	s.firstFrameSeq = s.first
	if s.isLink {
		return
	}
	if s.isFile {
		s.noFirstFrame, s.fileError = true, fs.ErrNotExist
		return
	}
	start, err := segment.Peek(l.disk, l.fileOf(s.name))
	if err != nil {
		s.fileError = l.openFailure(s, err)
	}
	s.run, s.noFirstFrame = start.Run, start.FirstSeq == 0
	if !s.noFirstFrame {
		s.firstFrameSeq = start.FirstSeq
		s.nameFitsFrame = s.validName && s.sealed && s.firstFrameSeq == s.first
	}
}

// openFailure returns why a segment's file can't be opened if an administrator has to act:
// it is a link, or belongs to another user. It returns fs.ErrNotExist for a directory,
// FIFO, socket or device in place of the file, because these can't contain records. It
// returns nil if the disk failed.
func (l *Log) openFailure(s *foundDir, err error) error {
	info, errStat := l.disk.Stat(l.fileOf(s.name))
	switch {
	case errors.Is(err, vfs.ErrNotRegular) && errStat == nil && !vfs.IsLink(info), errors.Is(err, fs.ErrNotExist):
		return fs.ErrNotExist
	case vfs.IsUnreadable(err):
		return nil
	}
	return err
}

// pagesError returns the error of the pages of the file that the disk could not read.
// It is nil if there are none, or if the file has not been scanned.
func (s *foundDir) pagesError() error {
	if s.scan == nil || s.scan.Unread == nil {
		return nil
	}
	return s.scan.Unread
}

// read scans the whole file, once. It returns nil if the file can't be read.
func (l *Log) read(s *foundDir) *segment.Scan {
	if s.scan == nil && s.fileError == nil {
		if s.isLink {
			s.fileError = vfs.ErrNotRegular
		} else if s.isFile {
			s.fileError = fs.ErrNotExist
		} else if s.scan, s.fileError = l.scanRepeatedly(s.name); s.fileError != nil {
			l.mayDoubt(s.fileError)
		} else if s.scan.Missing {
			s.scan, s.fileError = nil, fs.ErrNotExist
		} else if s.scan.Unread != nil && s.scan.Unread.Pages == 0 { // it could not even be opened
			l.mayDoubt(s.scan.Unread)
		}
	}
	return s.scan
}

// readToDecide is read for a caller that decides at once. It fails if the start must not
// decide, because of this segment or one that was read before.
func (l *Log) readToDecide(s *foundDir) (*segment.Scan, error) {
	w := l.read(s)
	return w, l.doubt
}

// scanAttempts is how often a start reads a file before a part of it counts as unreadable.
const scanAttempts = 3

// scanRepeatedly scans the file of a segment directory, again if the disk could not read a
// part of it. What a start makes of missing records can't be undone.
func (b *base) scanRepeatedly(name string) (w *segment.Scan, err error) {
	for range scanAttempts {
		if w, err = b.scanAll(name); err != nil || w.Unread == nil {
			break
		}
	}
	return w, err
}

// mayDoubt makes this attempt to start end before it decides by what it has read, unless it
// tolerates err. The next attempt reads again.
func (l *Log) mayDoubt(err error) {
	if err != nil && l.doubt == nil && !l.tolerates(err) {
		l.doubt = err
	}
}

// rightName is the name that matches the segment's records.
func (s *foundDir) rightName() string {
	if !s.sealed {
		return segment.ActiveName(s.first)
	}
	return segment.SealedName(s.first, s.last)
}

func withoutEntry(all []*foundDir, one *foundDir) []*foundDir {
	return slices.DeleteFunc(slices.Clone(all), func(s *foundDir) bool { return s == one })
}
