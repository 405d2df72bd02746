package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Inspector reads a log without changing anything, even while a daemon writes to it.
type Inspector struct {
	disk  vfs.Disk
	dir   string
	live  bool   // a daemon held the log when the inspector was made
	logID uint64 // 0 if LOG can't be read

	process string // content of the lock file: that daemon's process id
}

// Inspect returns an inspector of the log in dataDir.
func Inspect(dataDir string) (*Inspector, error) {
	dir := filepath.Join(dataDir, "wal")
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("can't look for a log in %s: %w", dataDir, err)
	} else if err != nil {
		return nil, fmt.Errorf("no log in %s: %w", dataDir, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("no log in %s: wal is not a directory", dataDir)
	}
	i := &Inspector{disk: vfs.OSDisk(), dir: dir}
	if b, err := i.disk.ReadFile(filepath.Join(dir, identityName)); err == nil {
		if id, err := decodeIdentity(b); err == nil {
			i.logID = id.logID
		}
	}
	var err error
	i.process, i.live, err = HolderOf(dataDir)
	return i, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Process returns the process id of the daemon that held the log when the inspector was
// made, as the lock file contains it. It is empty if no daemon held the log, or if the
// file can't be read.
func (i *Inspector) Process() string { return i.process }

// Live reports whether a daemon held the log when the inspector was made.
func (i *Inspector) Live() bool { return i.live }

// Report is the result of reading a segment.
type Report struct {
	Header  segment.Header // zero if the header can't be read
	Records uint64         // number of records that check out
	LastSeq uint64         // seq of the last of them
	Damaged []segment.ByteRange
	Lost    []SeqRange
	Reason  error // why the first damaged bytes are damaged, or why the segment can't be read; or nil
	// Vanished means that the segment was removed meanwhile, as a daemon does once the
	// segment is shipped.
	Vanished bool
}

// OK reports whether the segment is undamaged and complete.
func (r *Report) OK() bool { return r.Reason == nil && len(r.Lost) == 0 }

// Examine reads a segment from end to end and verifies every checksum. It calls each,
// unless that is nil, for every record that checks out. The report lists damage. An
// error comes from the disk or from each, or wraps ErrVersion.
func (i *Inspector) Examine(e Entry, each func(*Record) error) (*Report, error) {
	r, w, err := i.examine(e)
	// A frame that is read while the daemon writes it looks damaged, with good frames
	// behind it. Only real damage is still there at the next look.
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
		return &Report{Vanished: true}, nil // removed before its first record was read
	}
	return r, err
}

func (i *Inspector) examine(e Entry) (r *Report, w *segment.Scan, err error) {
	path := cmp.Or(e.file, filepath.Join(i.dir, e.Name, segment.FileName))
	want := segment.Wanted{LogID: i.logID, First: max(e.FirstSeq, 1), Last: cmp.Or(e.LastSeq, maxSeq-1), AllowOthers: e.hasOthers}
	w, err = want.Scan(i.disk, path)
	if err == nil && w.Missing && e.file == "" {
		if path = i.currentPath(e); path == "" {
			return &Report{Vanished: true}, w, nil
		}
		w, err = want.Scan(i.disk, path)
	}
	if errors.Is(err, ErrVersion) {
		return nil, nil, err
	}
	if err != nil {
		r = &Report{Reason: err, Lost: []SeqRange{{First: e.FirstSeq, Last: max(e.FirstSeq, e.LastSeq)}}}
		return r, &segment.Scan{}, nil //nolint:nilerr // the report contains it, so that the caller examines the other segments
	}
	r = &Report{Header: w.Header, Damaged: w.Damaged, Reason: w.Reason}
	r.Records, r.LastSeq = w.Count(), w.Last()
	first := e.FirstSeq
	if first == 0 && len(w.Pieces) > 0 {
		first = w.Pieces[0].First
	}
	if last := cmp.Or(e.LastSeq, w.Last()); last > 0 {
		r.Lost = w.Gaps(first, last)
	}
	if e.LastSeq == 0 {
		if err := i.ignoreUnfinishedTail(w, r); err != nil {
			return nil, nil, err
		}
	}
	return r, w, nil
}

// currentPath returns the present path of a segment's file, or "" if the segment is gone.
func (i *Inspector) currentPath(e Entry) string {
	entries, err := i.Entries()
	if err != nil {
		return ""
	}
	for _, now := range entries {
		sealed := now.FirstSeq == e.FirstSeq && now.State == StateSealed && (e.LastSeq == 0 || e.LastSeq == now.LastSeq) // with another last seq it is a piece
		if now.Name == e.Name || sealed {
			return filepath.Join(i.dir, now.Name, segment.FileName)
		}
	}
	return ""
}

// ignoreUnfinishedTail clears the report of damage behind the last good frame of an
// unsealed segment if those bytes are zeros, or may be a commit under way on a live
// log.
func (i *Inspector) ignoreUnfinishedTail(w *segment.Scan, r *Report) error {
	if w.HeaderEnd == 0 && !i.live { // the header was durable before the segment had its name
		return nil
	}
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
		kept, err := sizeWithoutZeros(in, segment.ByteRange{From: w.Damaged[0].From, To: w.Size})
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
