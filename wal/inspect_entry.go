package wal

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"time"

	"collectord/wal/segment"
)

// State is the state of a segment directory, as its name shows.
type State string

// The states of a directory, in the order of a segment's life.
const (
	StateNext   State = "next"
	StateActive State = "active" // or left open by a crash
	StateSealed State = "sealed"
	StateUnread State = "unread" // part of a segment that the disk could not read; the next start reads it again
	StateGone   State = "gone"   // being removed
)

// Entry is one segment directory of a log.
type Entry struct {
	Name     string
	State    State
	FirstSeq uint64    // 0 for next
	LastSeq  uint64    // 0 if the name has one seq or none
	Bytes    int64     // size of the file; set by Entries if it can be read
	Modified time.Time // of the file; set by Entries if it can be read

	file      string // path, set by Find; if empty, the file is in the directory with that name
	hasOthers bool   // its file also contains records of other segments
}

// Entries lists the segments by seq. The entry named next is the last.
func (i *Inspector) Entries() (all []Entry, err error) {
	names, err := os.ReadDir(i.dir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		e, ok := entryOf(n.Name())
		if !ok {
			continue
		}
		if info, err := os.Stat(filepath.Join(i.dir, n.Name(), segment.FileName)); err == nil {
			e.Bytes, e.Modified = info.Size(), info.ModTime()
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int {
		if (a.State == StateNext) != (b.State == StateNext) {
			return cmp.Compare(b.FirstSeq, a.FirstSeq) // next comes last
		}
		return cmp.Or(cmp.Compare(a.FirstSeq, b.FirstSeq), cmp.Compare(a.LastSeq, b.LastSeq))
	})
	return all, nil
}

// entryOf returns the entry that the name of a directory describes. ok is false if the
// name is not a segment's.
func entryOf(name string) (e Entry, ok bool) {
	first, last, ending, ok := parseName(name)
	if name == nextName {
		return Entry{Name: name, State: StateNext}, true
	}
	if !ok {
		return e, false
	}
	e = Entry{Name: name, FirstSeq: first, LastSeq: last}
	_, e.hasOthers = cutUnread(ending)
	e.hasOthers = e.hasOthers || ending == lostSuffix
	switch {
	case ending == unreadSuffix, ending == tailSuffix:
		e.State = StateUnread
	case isBetweenNames(ending), ending == "" && last > 0:
		e.State = StateSealed
	case ending != "":
		e.State = StateGone
	default:
		e.State = StateActive
	}
	return e, true
}
