package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// State is what a directory of the log is.
type State string

// The states of a directory, in the order of a segment's life.
const (
	StateNext   State = "next"
	StateActive State = "active" // or left so by a crash
	StateSealed State = "sealed"
	StateUnread State = "unread" // what the disk did not give of a segment; the next start reads it again
	StateGone   State = "gone"   // being deleted
)

// Entry is one directory of a log that is looked at from outside.
type Entry struct {
	Name     string
	State    State
	FirstSeq uint64 // 0 for next
	LastSeq  uint64 // of a sealed segment; otherwise 0
	Bytes    int64
	Modified time.Time
}

// Inspector looks at a log without changing anything, also while a daemon is
// writing to it.
type Inspector struct {
	dir   string
	live  bool
	logID uint64 // 0 if it can't be read
}

// Inspect looks at the log in dataDir.
func Inspect(dataDir string) (*Inspector, error) {
	dir := filepath.Join(dataDir, "wal")
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("no log in %s: %w", dataDir, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("no log in %s: wal is no directory", dataDir)
	}
	i := &Inspector{dir: dir}
	if b, err := vfs.OSDisk().ReadFile(filepath.Join(dir, identityName)); err == nil {
		if id, err := decodeIdentity(b); err == nil {
			i.logID = id.logID
		}
	}
	lock, err := vfs.OS{}.Open(filepath.Join(dataDir, "LOCK"))
	if errors.Is(err, vfs.ErrNotRegular) {
		return i, nil // nobody holds it
	}
	if err != nil {
		return i, ignoreMissing(err)
	}
	defer lock.Close()
	if f, ok := lock.(interface{ Fd() uintptr }); ok {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) // released by closing
		i.live = errors.Is(err, syscall.EWOULDBLOCK)
	}
	return i, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Live reports whether a daemon held the log when the inspector was made.
func (i *Inspector) Live() bool { return i.live }

// Entries lists the segments, oldest first.
func (i *Inspector) Entries() (all []Entry, err error) {
	names, err := os.ReadDir(i.dir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		first, last, ending, ok := parseName(n.Name())
		e := Entry{Name: n.Name(), FirstSeq: first, LastSeq: last}
		switch {
		case n.Name() == nextName:
			e.State = StateNext
		case !ok:
			continue
		case ending == unreadSuffix, ending == tailSuffix:
			e.State = StateUnread
		case ending == movingSuffix:
			e.State = StateSealed
		case ending != "":
			e.State = StateGone
		case last > 0:
			e.State = StateSealed
		default:
			e.State = StateActive
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

// Report is what is found in a segment.
type Report struct {
	Header  segment.Header // zero if it can't be read
	Records uint64         // that check out
	LastSeq uint64         // of those
	Damaged []segment.ByteRange
	Lost    []SeqRange
	Reason  error // why the first bytes are damaged, or nil
	// Vanished means that the segment was removed meanwhile, as a daemon does
	// once it is shipped.
	Vanished bool
}

// OK reports whether nothing is wrong with the segment.
func (r *Report) OK() bool { return r.Reason == nil && len(r.Lost) == 0 }

// Examine reads a segment from end to end and checks every checksum. each is
// called for every good record, if it is not nil. Errors come from the disk,
// from each, or are ErrVersion.
func (i *Inspector) Examine(e Entry, each func(*Record) error) (*Report, error) {
	r, w, err := i.examine(e)
	// A frame that was read while it was written looks damaged, with good ones
	// behind it by then. What is damaged is so at the next look too.
	for err == nil && i.live && e.State == StateActive && !r.OK() {
		before := r
		r, w, err = i.examine(e)
		if err == nil && (slices.ContainsFunc(r.Damaged, func(d segment.ByteRange) bool { return slices.Contains(before.Damaged, d) }) ||
			slices.ContainsFunc(r.Lost, func(g SeqRange) bool { return slices.Contains(before.Lost, g) })) {
			break
		}
	}
	if errors.Is(err, ErrVersion) {
		return nil, fmt.Errorf("segment %s: %w", e.Name, err)
	}
	if err != nil || each == nil || r.Vanished || len(w.Pieces) == 0 {
		return r, err
	}
	if err = w.Records(each); errors.Is(err, fs.ErrNotExist) {
		return &Report{Vanished: true}, nil // in between, before the first record
	}
	return r, err
}

func (i *Inspector) examine(e Entry) (r *Report, w *segment.Scan, err error) {
	path := filepath.Join(i.dir, e.Name, segment.FileName)
	want := segment.Wanted{LogID: i.logID, First: max(e.FirstSeq, 1), Last: cmp.Or(e.LastSeq, maxSeq-1), Others: e.State == StateUnread}
	w, err = want.Scan(vfs.OSDisk(), path)
	if err == nil && w.Missing {
		if path = i.follow(e); path == "" {
			return &Report{Vanished: true}, w, nil
		}
		w, err = want.Scan(vfs.OSDisk(), path)
	}
	if errors.Is(err, ErrVersion) {
		return nil, nil, err
	}
	if err != nil {
		r = &Report{Reason: err, Lost: []SeqRange{{First: e.FirstSeq, Last: max(e.FirstSeq, e.LastSeq)}}}
		return r, &segment.Scan{}, nil //nolint:nilerr // no reason not to look at the others
	}
	r = &Report{Header: w.Header, Damaged: w.Damaged, Reason: w.Reason}
	for n, p := range w.Pieces {
		r.Records += p.Last - p.First + 1
		r.LastSeq = p.Last
		if n > 0 {
			r.Lost = append(r.Lost, SeqRange{First: w.Pieces[n-1].Last + 1, Last: p.First - 1})
		}
	}
	if e.State == StateSealed || e.State == StateUnread {
		r.Lost = w.Gaps(e.FirstSeq, e.LastSeq)
	} else if err := i.forgiveTail(w, r); err != nil {
		return nil, nil, err
	}
	return r, w, nil
}

// follow returns the path that a segment's file has by now, or nothing if the
// segment is gone, as it is once it was shipped.
func (i *Inspector) follow(e Entry) string {
	entries, err := i.Entries()
	if err != nil {
		return ""
	}
	for _, now := range entries {
		if now.Name == e.Name || now.FirstSeq == e.FirstSeq && now.State == StateSealed {
			return filepath.Join(i.dir, now.Name, segment.FileName)
		}
	}
	return ""
}

// forgiveTail takes what follows the last good frame of a segment that is not
// sealed for what it is: nothing, if it is zeros or a commit under way.
func (i *Inspector) forgiveTail(w *segment.Scan, r *Report) error {
	if len(w.Damaged) != 1 || w.Misplaced || w.Unread != nil || w.Damaged[0].To != w.Size {
		return nil
	}
	blank := true
	if !i.live {
		in, end, err := w.Open()
		if err != nil {
			return err
		}
		defer end()
		kept, err := withoutZeros(in, segment.ByteRange{From: w.Damaged[0].From, To: w.Size})
		if err != nil {
			return err
		}
		blank = kept == 0
	}
	if blank {
		r.Reason, r.Damaged = nil, nil
	}
	return nil
}
