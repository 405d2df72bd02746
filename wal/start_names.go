package wal

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// names is what a start finds in the log directory.
type names struct {
	segments []*named // in order of their records, none in two of them
	unread   []*named // what the disk did not give to an earlier run
	leaving  []*named // decided to be lost, see departure
	nextSeq  uint64   // above those of removed segments
}

// above raises the seq to go on with above one that was used.
func (found *names) above(seq uint64) { found.nextSeq = max(found.nextSeq, seq+1) }

// readNames lists what is there, and finds out which records the segments hold.
func (l *Log) readNames() (found names, err error) {
	entries, err := l.disk.List(l.dir)
	if err != nil {
		return found, err
	}
	found.nextSeq = 1
	var gone []uint64
	salvage := false
	var linked []*named
	for _, e := range entries {
		name := e.Name()
		first, last, ending, ok := parseName(name)
		s := &named{name: name, first: first, last: last, sealed: last > 0, sound: ok, link: e.Type() == fs.ModeSymlink}
		switch {
		case strings.Contains(name, asideMark):
			if err := l.putAside(filepath.Join(l.dir, name), errInTheWay); err != nil {
				return found, err
			}
		case ok && s.link && (ending == "" || ending == unreadSuffix || ending == tailSuffix || ending == movingSuffix):
			linked = append(linked, s)
		case ok && strings.HasSuffix(ending, goneSuffix):
			found.above(max(first-1, last))
			gone = append(gone, first)
			l.gone = append(l.gone, name)
		case !e.IsDir() && (name == nextName || name == salvageName), !e.Type().IsRegular() && (name == identityName || name == identityName+".tmp"):
			l.found(FoundStray, slog.LevelWarn, "moved to the quarantine what is not part of a log: it was in the place of a file or directory", "path", filepath.Join(l.dir, name))
			if err := l.putAside(filepath.Join(l.dir, name), errInTheWay); err != nil {
				return found, err
			}
		case !e.IsDir() && name != identityName && name != identityName+".tmp" && name != quarantineName && name != lostName:
			l.stray(name)
		case ok && (ending == unreadSuffix || ending == tailSuffix):
			found.unread = append(found.unread, s)
		case ok && ending != "" && ending != movingSuffix:
			found.leaving = append(found.leaving, s)
			gone = append(gone, first)
		case ok:
			found.segments = append(found.segments, s)
		case len(name) == len(segment.SealedName(1, 1)), len(name) == len(segment.ActiveName(1)): // with a wrong digit?
			s.first, s.last, s.sealed = 0, 0, len(name) == len(segment.SealedName(1, 1))
			found.segments = append(found.segments, s)
		case name == nextName:
			first, err := l.nameNext()
			if err != nil && l.tolerates(err) {
				err = l.putAside(filepath.Join(l.dir, name), err)
			}
			if err != nil {
				return found, err
			}
			if first > 0 {
				found.segments = append(found.segments, &named{name: name, first: first, sound: true})
			}
		case name == salvageName:
			salvage = true
		case name == identityName, name == identityName+".tmp", name == quarantineName, name == lostName:
		default:
			l.stray(name)
		}
	}
	for _, s := range linked {
		if err := l.leaveSegment(s, &found, vfs.ErrNotRegular); err != nil {
			return found, err
		}
	}
	if err = l.deleteLinks(&found); err == nil || l.tolerates(err) {
		err = l.settle(&found, gone)
	}
	if err == nil && salvage {
		if err = l.undoSalvage(&found); err != nil && l.tolerates(err) {
			err = l.keepSalvage(err)
		}
	}
	return found, err
}

// undoSalvage deletes the directory of an interrupted salvage, unless something
// in it is nowhere else.
func (l *Log) undoSalvage(found *names) error {
	work := filepath.Join(l.dir, salvageName)
	entries, err := l.disk.List(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(work, e.Name(), segment.FileName)
		if slices.ContainsFunc(slices.Concat(found.segments, found.unread), func(s *named) bool { return l.disk.IsSameFile(path, l.fileOf(s.name)) }) {
			continue // another name of a file that has one
		}
		w, err := segment.All(l.logID).Scan(l.disk, path)
		if err == nil && w.Unread != nil {
			err = w.Unread
		}
		if err != nil {
			return l.keepSalvage(err)
		}
		for _, p := range w.Pieces {
			segments := found.segments
			i := slices.IndexFunc(segments, func(s *named) bool { return s.sealed && s.first <= p.First && s.last >= p.Last })
			if i < 0 || l.read(segments[i]) == nil {
				return l.keepSalvage(errors.New("no segment has its records"))
			}
			if in, err := segments[i].scan.Holds(w.Only(p)); err != nil || !in {
				return l.keepSalvage(errors.Join(err, errors.New("a segment has other records")))
			}
		}
	}
	l.found(FoundSalvage, slog.LevelWarn, "deleted what an interrupted salvage left: it will be done again", "path", salvageName)
	return l.clearSalvage()
}

func (l *Log) keepSalvage(reason error) error {
	l.found(FoundSalvage, slog.LevelError, "moved to the quarantine what an interrupted salvage left", "path", salvageName, "reason", reason)
	return l.putAside(filepath.Join(l.dir, salvageName), reason)
}

// clearSalvage deletes the directory in which pieces are made. Of a piece each
// record is in the original, too.
func (b *base) clearSalvage() error {
	work := filepath.Join(b.dir, salvageName)
	if info, err := b.disk.Stat(work); err != nil {
		return ignoreMissing(err)
	} else if !info.IsDir() {
		return b.quarantineDir(salvageName)
	}
	entries, err := b.disk.List(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, last, ending, ok := parseName(e.Name()); !ok || last == 0 || ending != "" && ending != unreadSuffix && ending != tailSuffix || !e.IsDir() {
			break // not ours
		}
		if err := b.removeDir(filepath.Join(work, e.Name())); err != nil {
			return err
		}
	}
	return b.removeDir(work)
}

// clearPiece makes way for a piece: one of an attempt that failed may be there.
// Should it hold anything that the original does not, it goes to the quarantine.
func (b *base) clearPiece(name string, original *segment.Scan) error {
	w, err := b.scanAll(name)
	if err != nil || w.Missing || w.Unread != nil {
		if _, err := b.disk.Stat(filepath.Join(b.dir, name)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return b.quarantineDir(name)
	}
	in, err := original.Holds(w)
	if err != nil {
		return err
	}
	if !in {
		return b.quarantineDir(name)
	}
	return b.deleteExamined(name)
}
