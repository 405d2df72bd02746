package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// lostName is the directory of the loss notes that wait for upload.
const lostName = "lost"

// losses keeps the loss notes. Its mutex guards the directory lost/ and is held while the
// directory is read or written.
type losses struct {
	*base
	waiting atomic.Int64 // number of notes to upload; at least 1 if the directory could not be read

	mu          sync.Mutex          // guards the notes' directory and the fields below
	last        LossNote            // the note written last, which the next one may extend
	unread      map[string]SeqRange // seqs in the names of the notes that the disk can't read, by file name
	leftInPlace []string            // names of the entries that are left in place: notes of later versions, and what is not a file
}

// reset discards the results of a failed start.
func (l *losses) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.unread, l.leftInPlace = LossNote{}, nil, nil
	l.waiting.Store(0)
}

// note makes a loss note durable. A note that continues the last one replaces it, so
// that a long outage leaves one note instead of thousands.
func (l *losses) note(n LossNote) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	dir := filepath.Join(l.dir, lostName)
	old := l.last
	hours := slices.Compact(slices.Sorted(slices.Values(slices.Concat(old.Hours, n.Hours))))
	extends := old.LastSeq+1 == n.FirstSeq && old.LogID == n.LogID && old.Run == n.Run && old.Reason == n.Reason &&
		(len(old.Hours) > 0) == (len(n.Hours) > 0) && len(hours) <= maxHours
	if extends {
		if _, err := l.disk.Stat(filepath.Join(dir, old.fileName())); err != nil {
			extends = false // uploaded and deleted meanwhile
		} else {
			n.FirstSeq, n.Hours = old.FirstSeq, hours
		}
	}
	if err := writeNote(l.disk, dir, n); err != nil {
		return fmt.Errorf("loss note: %w", err)
	}
	l.last = n
	if extends {
		if err := deleteReplacedNote(l.disk, dir, old); err != nil { // harmless: both notes are correct
			l.opts.Logger.Warn("can't delete a loss note that another one includes: both are uploaded", "trouble", "loss_note", "error", err)
			l.waiting.Add(1)
		}
		return nil
	}
	l.waiting.Add(1)
	return nil
}

// maxListedLosses is the max number of notes that list returns.
const maxListedLosses = 256

// list reads the first loss notes, by seq, as Losses documents.
func (l *losses) list() (notes []LossNote, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	complete, err := l.eachNote(func(n LossNote) bool {
		notes = append(notes, n)
		return len(notes) < maxListedLosses
	})
	if err == nil && complete {
		l.waiting.Store(int64(len(notes)))
	}
	return notes, err
}

// count counts the notes at a start, calls each for every note, and corrects the names
// of misnamed ones.
func (l *losses) count(each func(LossNote)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(0)
	_, err := l.eachNote(func(note LossNote) bool { n++; each(note); return true })
	if err == nil {
		l.waiting.Store(n)
	}
	return err
}

// eachNote calls each for every note, by name, until each returns false. complete is false
// if it did.
func (l *losses) eachNote(each func(LossNote) bool) (complete bool, err error) {
	dir := filepath.Join(l.dir, lostName)
	entries, err := l.disk.List(dir)
	if errors.Is(err, fs.ErrNotExist) { // a start could not create it, so there are no notes
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		scratch := strings.HasSuffix(e.Name(), ".tmp") || e.Name() == reserveName
		if scratch && !e.Type().IsRegular() {
			if err := l.putAside(path, errInTheWay); err != nil {
				return false, err
			}
		}
		if scratch || isAside(e.Name()) || slices.Contains(l.leftInPlace, e.Name()) { // the reserve, an interrupted write, or left in place before
			continue
		}
		n, valid, err := l.readNote(path, e)
		if err != nil {
			return false, err
		}
		if valid && !each(n) {
			return false, nil
		}
	}
	return true, nil
}

// readNote reads a note. valid is false if the entry is not a valid note; it is then
// left in place or put aside.
func (l *losses) readNote(path string, e fs.DirEntry) (n LossNote, valid bool, err error) {
	if !e.Type().IsRegular() {
		l.leftInPlace = append(l.leftInPlace, e.Name())
		l.leaveStray(filepath.Join(lostName, e.Name()))
		return n, false, nil
	}
	b, err := l.disk.ReadFile(path)
	if err != nil {
		l.leaveNote(path, err)
		return n, false, nil
	}
	if _, was := l.unread[e.Name()]; was {
		delete(l.unread, e.Name())
		l.aside.unlist(l.relative(path))
	}
	n, err = decodeLossNote(b)
	switch {
	case errors.Is(err, ErrVersion):
		l.leftInPlace = append(l.leftInPlace, e.Name())
		l.reportFinding(FoundLaterVersion, slog.LevelError, "left a loss note in its place: a later version wrote it", "path", path)
		return n, false, nil
	case err != nil:
		l.reportFinding(FoundUnreadableNote, slog.LevelError, "put aside a loss note: it is damaged", "path", path, "error", err)
		return n, false, l.putAside(path, err)
	case e.Name() != n.fileName():
		valid, err = l.renameNote(path, n)
		return n, valid, err
	}
	return n, true, nil
}

// leaveNote leaves a note that the disk can't read in its place. The seqs in its name
// stand for its content.
func (l *losses) leaveNote(path string, err error) {
	name := filepath.Base(path)
	if _, known := l.unread[name]; known {
		return
	}
	var r SeqRange
	if at := strings.LastIndex(name, "-"); at > 0 {
		if first, last, _, ok := parseName(name[:at]); ok {
			r = SeqRange{First: first, Last: last}
		}
	}
	if l.unread == nil {
		l.unread = map[string]SeqRange{}
	}
	l.unread[name] = r
	l.listLeft(path, err)
	l.reportFinding(FoundUnreadableNote, slog.LevelError, "left a loss note in its place: the disk can't read it (check the disk; the next start tries again)", "path", path, "error", err)
}

// renameNote renames a note so that LossStored finds it. If another note has that name,
// it puts this one aside.
func (l *losses) renameNote(path string, n LossNote) (valid bool, err error) {
	to := filepath.Join(l.dir, lostName, n.fileName())
	if _, err := l.disk.Stat(to); err == nil {
		return false, l.putAside(path, errors.New("another note has its name"))
	}
	l.reportFinding(FoundMisnamed, slog.LevelWarn, "renamed a loss note: its name did not match its content", "path", path, "to", n.fileName())
	return true, l.disk.RenameDurably(path, to)
}

// deleteStored deletes a note that the storage has confirmed. It ignores one that is
// already deleted.
func (l *losses) deleteStored(n LossNote) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.disk.Remove(filepath.Join(l.dir, lostName, n.fileName()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		l.waiting.Add(-1)
	}
	return err
}

// unreadRanges lists the seqs of the notes that the disk can't read.
func (l *losses) unreadRanges() (ranges []SeqRange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.unread {
		ranges = append(ranges, r)
	}
	return ranges
}

// unconfirmed returns the lowest seq of a note that the storage has not confirmed, or
// 2^63 if there is none. It returns 1 if the notes can't be listed, since each seq may
// have one.
func (l *losses) unconfirmed() (lowest uint64) {
	lowest = maxSeq
	if l.waiting.Load() > 0 {
		notes, err := l.list()
		if err != nil {
			return 1
		}
		for _, n := range notes {
			lowest = min(lowest, n.FirstSeq)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.unread {
		lowest = min(lowest, max(1, r.First))
	}
	return lowest
}

// Losses returns the loss notes that wait for upload: the first 256 by seq. It returns
// more once these are stored. It reads the disk. A damaged note is put aside. A note
// that the disk can't read stays for the next start, and Unread lists its seqs.
func (l *Log) Losses() ([]LossNote, error) {
	if !l.Started() {
		return nil, nil
	}
	return l.losses.list()
}

// LossStored deletes a note that the storage has confirmed. A repeated call does
// nothing.
func (l *Log) LossStored(n LossNote) error { return l.losses.deleteStored(n) }
