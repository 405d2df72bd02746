package wal

import (
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// foundDirs is what a start has found in the log directory.
type foundDirs struct {
	segments    []*foundDir // by first seq; no record is in two of them
	unread      []*foundDir // .unread and .tail of an earlier run
	removals    []*foundDir // removals that were interrupted before .gone
	leftInPlace []*foundDir // entries that can't be read or renamed, left in their places
	nextSeq     uint64      // above every seq in a name
}

// raiseNextSeq makes nextSeq higher than seq.
func (found *foundDirs) raiseNextSeq(seq uint64) { found.nextSeq = max(found.nextSeq, seq+1) }

// readNames lists the directory, puts aside entries that block a name of the log, and finds
// out which records the segments contain.
func (l *Log) readNames() (found foundDirs, err error) {
	entries, err := l.disk.List(l.dir)
	if err != nil {
		return found, err
	}
	found.nextSeq = 1
	var gone []uint64
	salvage := false
	var linked []*foundDir
	for _, e := range entries {
		name := e.Name()
		first, last, ending, ok := parseName(name)
		s := &foundDir{name: name, first: first, last: last, sealed: last > 0, validName: ok, isLink: e.Type() == fs.ModeSymlink}
		s.isFile = !e.IsDir() && !s.isLink
		switch {
		case isAside(name):
			if err := l.putAside(filepath.Join(l.dir, name), errInTheWay); err != nil {
				return found, err
			}
		case ok && s.isLink && (ending == "" || ending == unreadSuffix || ending == tailSuffix || isBetweenNames(ending)):
			linked = append(linked, s)
		case ok && strings.HasSuffix(ending, goneSuffix):
			found.raiseNextSeq(max(first-1, last))
			gone = append(gone, first)
			l.goneNames = append(l.goneNames, name)
		case !e.IsDir() && (name == nextName || name == salvageName), !e.Type().IsRegular() && (name == identityName || name == identityName+".tmp"):
			l.reportFinding(FoundStray, slog.LevelWarn, "put aside an entry that is not part of a log: it was in the place of a file or directory", "path", filepath.Join(l.dir, name))
			if err := l.putAside(filepath.Join(l.dir, name), errInTheWay); err != nil {
				return found, err
			}
		case !e.IsDir() && (!ok || s.isLink) && name != identityName && name != identityName+".tmp" && name != quarantineName && name != lostName:
			l.leaveStray(name)
		case ok && (ending == unreadSuffix || ending == tailSuffix):
			found.unread = append(found.unread, s)
		case ok && ending != "" && !isBetweenNames(ending):
			found.removals = append(found.removals, s)
			gone = append(gone, first)
		case ok:
			found.segments = append(found.segments, s)
		case len(name) == len(segment.SealedName(1, 1)), len(name) == len(segment.ActiveName(1)): // perhaps a segment with a wrong digit
			s.first, s.last, s.sealed = 0, 0, len(name) == len(segment.SealedName(1, 1))
			found.segments = append(found.segments, s)
		case name == nextName:
			first, err := l.recoverNext()
			if err != nil && l.tolerates(err) {
				err = l.putAside(filepath.Join(l.dir, name), err)
			}
			if err != nil {
				return found, err
			}
			if first > 0 {
				found.segments = append(found.segments, &foundDir{name: name, first: first, validName: true})
			}
		case name == salvageName:
			salvage = true
		case name == identityName, name == identityName+".tmp", name == quarantineName, name == lostName:
		default:
			l.leaveStray(name)
		}
	}
	if err := l.putStrayFilesAside(&found); err != nil {
		return found, err
	}
	for _, s := range linked {
		if err := l.leaveSegment(s, &found, vfs.ErrNotRegular); err != nil {
			return found, err
		}
	}
	if err = l.deleteStaleLinks(&found); err == nil {
		err = l.settle(&found, gone)
	}
	if err == nil && salvage {
		if err = l.undoSalvage(&found); err != nil && l.tolerates(err) {
			err = l.quarantineSalvage(err)
		}
	}
	return found, err
}

// putStrayFilesAside puts aside files that have the name of a segment but can't have
// replaced a sealed one. Segments are sealed in order, so a sealed name behind an unsealed
// segment is not the log's.
func (l *Log) putStrayFilesAside(found *foundDirs) error {
	firstUnsealed := uint64(maxSeq)
	for _, s := range found.segments {
		if !s.isFile && s.validName && !s.sealed {
			firstUnsealed = min(firstUnsealed, s.first)
		}
	}
	for _, s := range found.segments {
		if !s.isFile || s.sealed && s.first <= firstUnsealed {
			continue
		}
		l.reportFinding(FoundStray, slog.LevelWarn, "moved to the quarantine an entry that is not part of a log: it has the name of a segment", "path", filepath.Join(l.dir, s.name))
		if err := l.putAside(filepath.Join(l.dir, s.name), errInTheWay); err != nil {
			return err
		}
		found.segments = withoutEntry(found.segments, s)
	}
	return nil
}
