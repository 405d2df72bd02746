package wal

import (
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// names is what a start has found in the log directory.
type names struct {
	segments []*named // in the order of their records; no record is in two of them
	unread   []*named // .unread and .tail of an earlier run
	removals []*named // removals that were interrupted before .gone
	nextSeq  uint64   // above every seq that a name tells
}

// above makes nextSeq higher than seq.
func (found *names) above(seq uint64) { found.nextSeq = max(found.nextSeq, seq+1) }

// readNames lists the directory, puts aside what is in the way, and finds out which
// records the segments hold.
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
			l.found(FoundStray, slog.LevelWarn, "put aside what is not part of a log: it was in the place of a file or directory", "path", filepath.Join(l.dir, name))
			if err := l.putAside(filepath.Join(l.dir, name), errInTheWay); err != nil {
				return found, err
			}
		case !e.IsDir() && name != identityName && name != identityName+".tmp" && name != quarantineName && name != lostName:
			l.leaveStray(name)
		case ok && (ending == unreadSuffix || ending == tailSuffix):
			found.unread = append(found.unread, s)
		case ok && ending != "" && ending != movingSuffix:
			found.removals = append(found.removals, s)
			gone = append(gone, first)
		case ok:
			found.segments = append(found.segments, s)
		case len(name) == len(segment.SealedName(1, 1)), len(name) == len(segment.ActiveName(1)): // perhaps with a wrong digit
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
