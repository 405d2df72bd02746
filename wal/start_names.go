package wal

import (
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// names is what a start has found in the log directory.
type names struct {
	segments []*named // by first seq; no record is in two of them
	unread   []*named // .unread and .tail of an earlier run
	removals []*named // removals that were interrupted before .gone
	left     []*named // entries that can't be read or renamed, left in their places
	nextSeq  uint64   // above every seq in a name
}

// above makes nextSeq higher than seq.
func (found *names) above(seq uint64) { found.nextSeq = max(found.nextSeq, seq+1) }

// readNames lists the directory, puts aside entries that block a name of the log, and finds
// out which records the segments contain.
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
		s.plain = !e.IsDir() && !s.link
		switch {
		case isAside(name):
			if err := l.putAside(filepath.Join(l.dir, name), errInTheWay); err != nil {
				return found, err
			}
		case ok && s.link && (ending == "" || ending == unreadSuffix || ending == tailSuffix || isBetweenNames(ending)):
			linked = append(linked, s)
		case ok && strings.HasSuffix(ending, goneSuffix):
			found.above(max(first-1, last))
			gone = append(gone, first)
			l.gone = append(l.gone, name)
		case !e.IsDir() && (name == nextName || name == salvageName), !e.Type().IsRegular() && (name == identityName || name == identityName+".tmp"):
			l.found(FoundStray, slog.LevelWarn, "put aside what is not part of a log: it was in the place of a file or directory", "path", filepath.Join(l.dir, name))
			if err := l.putAside(filepath.Join(l.dir, name), errInTheWay); err != nil {
				return found, err
			}
		case !e.IsDir() && (!ok || s.link) && name != identityName && name != identityName+".tmp" && name != quarantineName && name != lostName:
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
			l.leaveStray(name)
		}
	}
	if err := l.putStrangersAside(&found); err != nil {
		return found, err
	}
	for _, s := range linked {
		if err := l.leaveSegment(s, &found, vfs.ErrNotRegular); err != nil {
			return found, err
		}
	}
	if err = l.deleteStaleLinks(&found); err == nil || l.tolerates(err) {
		err = l.settle(&found, gone)
	}
	if err == nil && salvage {
		if err = l.undoSalvage(&found); err != nil && l.tolerates(err) {
			err = l.quarantineSalvage(err)
		}
	}
	return found, err
}

// putStrangersAside puts aside files that have the name of a segment but can't have
// replaced a sealed one. Segments are sealed in order, so a sealed name behind an unsealed
// segment is not the log's.
func (l *Log) putStrangersAside(found *names) error {
	for _, s := range found.segments {
		sealed := s.sealed && !slices.ContainsFunc(found.segments, func(o *named) bool { return !o.plain && o.sound && !o.sealed && o.first < s.first })
		if !s.plain || sealed {
			continue
		}
		l.found(FoundStray, slog.LevelWarn, "moved to the quarantine what is not part of a log: it has the name of a segment", "path", filepath.Join(l.dir, s.name))
		if err := l.putAside(filepath.Join(l.dir, s.name), errInTheWay); err != nil {
			return err
		}
		found.segments = withoutNamed(found.segments, s)
	}
	return nil
}
