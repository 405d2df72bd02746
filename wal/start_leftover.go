package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// nextAfter returns the segment, interrupted removal or unread part that follows s. Its
// first seq is 2^63 if there is none.
func (found *foundDirs) nextAfter(s *foundDir) *foundDir {
	next := &foundDir{first: maxSeq}
	for _, o := range slices.Concat(found.segments, found.unread, found.removals) {
		if o.first > s.first && o.first < next.first {
			next = o
		}
	}
	return next
}

// nextAbove returns the entry with the lowest first seq above seq, among next and the
// entries that were left in their places. Only next limits a scan, because an entry that
// was left may not be part of the log.
func (found *foundDirs) nextAbove(seq uint64, next *foundDir) *foundDir {
	for _, o := range found.leftInPlace {
		if o.first > seq && o.first < next.first {
			next = o
		}
	}
	return next
}

// runAfter returns the run of the first segment behind s with a readable header, or 0.
func (found *foundDirs) runAfter(s *foundDir) uint64 {
	next := found.nextAfter(s)
	for next.run == 0 && next.first < maxSeq {
		next = found.nextAfter(next)
	}
	return next.run
}

// sealLeftover seals a segment that a crash left open, at its last good frame below the
// next segment. Frames above were never acknowledged, because their seqs belong to the next
// segment. Salvage repairs damage before the last good frame. sealLeftover returns the last
// seq, or 0 if there is no record, and the present path: the segment can be shipped from it
// even if it could not be renamed.
//
// All records below the next segment of the same run were acknowledged. The sealed name
// covers missing ones, too, and Salvage notes the loss. A next segment of unknown run
// counts as one of the same run, because a start seals the segments that the previous run
// left open.
func (l *Log) sealLeftover(s *foundDir, found *foundDirs) (last uint64, dir string, err error) {
	next := found.nextAfter(s)
	dir = filepath.Join(l.dir, s.name)
	path := filepath.Join(dir, segment.FileName)
	w, err := l.scanFor(s.name, s.first, next.first-1)
	if err == nil && w.Unread != nil && w.Unread.Pages == 0 { // it could not be opened: try again
		w, err = l.scanFor(s.name, s.first, next.first-1)
	}
	if errors.Is(err, vfs.ErrNotRegular) { // its directory is put aside unchanged
		w, err = &segment.Scan{Reason: err, Missing: true}, nil
	}
	if err != nil {
		return 0, dir, err
	}
	last = w.Last()
	hidden, err := w.HiddenRecords()
	if err != nil {
		return 0, dir, err
	}
	if hidden > 0 && next.first == maxSeq {
		if moved, err := l.splitOffTail(s, last, hidden, w); err != nil || moved {
			return 0, dir, err
		}
	}
	if hidden == 0 {
		next = found.nextAbove(max(last, s.first), next)
	}
	run := cmp.Or(next.run, found.runAfter(next))
	allAcknowledged := run != 0 && (w.Header.Run == 0 || w.Header.Run == run || s.overwritten)
	if run == 0 && next.first < maxSeq && !w.Missing {
		if allAcknowledged = next.sealed || !errors.Is(next.fileError, fs.ErrNotExist); !allAcknowledged && hidden == 0 {
			if err := l.noteSkipped(w, SeqRange{First: max(last+1, s.first), Last: next.first - 1}); err != nil {
				return 0, dir, err
			}
		}
	}
	if missing := next.first - 1 - max(last, s.first-1); allAcknowledged && hidden == 0 && missing > 0 {
		l.reportFinding(FoundMissing, slog.LevelError, "the end of a segment is missing: acknowledged records are not there",
			"segment", s.name, "records", missing, "from_seq", next.first-missing)
	}
	if hidden > 0 && next.first < maxSeq { // all records below next were acknowledged, and may be in the unreadable part
		last, allAcknowledged = next.first-1, false
	}
	if last == 0 && (w.Missing || w.HeaderEnd == 0 || s.overwritten) {
		if allAcknowledged {
			if err := l.noteMissing(SeqRange{First: s.first, Last: next.first - 1}, LossMissing); err != nil {
				return 0, dir, err
			}
		}
		if err := l.keepSeqsBelow(s.first); err != nil {
			return 0, dir, err
		}
		if s.overwritten {
			l.reportFinding(FoundNoRecords, slog.LevelError, "put aside a segment: the disk wrote the content of another segment over its records", "segment", s.name)
			return 0, dir, l.putAside(dir, errors.New("it contains another segment's records"))
		}
		l.reportFinding(FoundNoRecords, slog.LevelError, "put aside a segment: neither its header nor a record can be read", "segment", s.name, "reason", w.Reason)
		return 0, dir, l.putAside(dir, errors.New("no readable header or record"))
	}
	if w.Size > w.FramesEnd && hidden == 0 && !l.disk.HasOtherNames(path) {
		if err := l.cutTail(s.name, path, segment.ByteRange{From: w.FramesEnd, To: w.DataEnd}); err != nil {
			return 0, dir, err
		}
	}
	if allAcknowledged {
		last = next.first - 1
	}
	if last == 0 {
		return 0, dir, nil
	}
	// A killed process may have left records in memory only. They must be durable before
	// the segment ships. The sync may fail for a file that the disk can't read.
	if err := l.disk.SyncFile(path); err != nil && (w.Unread == nil || !vfs.IsUnreadable(err)) && !l.tolerates(err) {
		return 0, dir, err
	}
	l.reportFinding(FoundOpenSegment, slog.LevelInfo, "sealed a segment that the last run left open", "segment", s.name, "records", last-s.first+1)
	sealed := filepath.Join(l.dir, segment.SealedName(s.first, last))
	if err := l.disk.RenameDurably(dir, sealed); err == nil {
		dir = sealed
	} else if !l.tolerates(err) {
		return 0, dir, err
	} else if _, errStat := l.disk.Stat(dir); errors.Is(errStat, fs.ErrNotExist) {
		dir = sealed // the rename took effect, but may not be durable
	}
	return last, dir, nil
}

// noteSkipped notes the seqs r between the end of an unsealed segment and the next name,
// whose file is missing. It is unknown whether a record ever had them, and none will.
func (l *Log) noteSkipped(w *segment.Scan, r SeqRange) error {
	if r.First > r.Last || w.HeaderEnd == 0 && w.Last() == 0 {
		return nil
	}
	n := l.newLossNote(r, LossSkipped)
	n.Run = w.Header.Run
	return l.losses.note(n)
}

// cutTail cuts off the end of a file. It first copies the end to the quarantine, unless it
// is all zeros.
func (l *Log) cutTail(name, path string, tail segment.ByteRange) error {
	kept, err := l.quarantineTail(name, path, tail)
	if vfs.IsFullOrIO(err) || err != nil && l.tolerates(err) { // the tail may stay, because the sealed name shows where the records end
		l.reportFinding(FoundTornTail, slog.LevelWarn, "left what follows the last whole frame in its place: it can't be copied to the quarantine",
			"segment", name, "offset", tail.From, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("quarantine torn tail: %w", err)
	}
	if kept > 0 { // otherwise only zeros were there
		l.tornBytes.Add(uint64(kept))
		l.reportFinding(FoundTornTail, slog.LevelWarn, "cut off what follows the last whole frame: it was not acknowledged",
			"segment", name, "offset", tail.From, "bytes", kept)
	}
	if err = l.disk.Truncate(path, tail.From); err == nil {
		err = l.disk.SyncFile(path)
	}
	if err != nil && l.tolerates(err) {
		return nil
	}
	return err
}

// splitOffTail gives the unreadable end of an open segment a name of its own: .tail. It
// returns true if the whole segment got that name. That happens if no frame is good (last
// is 0), or without hard links.
func (l *Log) splitOffTail(s *foundDir, last, records uint64, w *segment.Scan) (moved bool, err error) {
	dir := filepath.Join(l.dir, s.name)
	first := max(last+1, s.first)
	tail := filepath.Join(l.dir, tailName(first, first+records-1))
	l.reportFinding(FoundUnreadable, slog.LevelError, "the disk can't read the end of a segment: it is kept, and the next start tries again (check the disk and its cable)",
		"segment", s.name, "offset", w.FramesEnd, "records_at_most", records, "error", w.Unread.Err)
	if last > 0 {
		err := l.link(filepath.Join(dir, segment.FileName), tail)
		if vfs.IsFullOrIO(err) {
			return false, err
		}
		if err != nil { // without hard links the whole segment waits for the next start
			first, last = s.first, 0
			tail = filepath.Join(l.dir, tailName(first, max(w.Last(), first-1)+records))
		}
	}
	if last == 0 {
		if err := l.disk.RenameDurably(dir, tail); err != nil {
			return false, err
		}
	}
	_, end, _, _ := parseName(filepath.Base(tail))
	u := &Segment{shelf: l.shelf, dir: tail, first: first, last: end, bytes: w.Size, sealedAt: time.Now(), countUncertain: true}
	if last > 0 {
		u.bytes /= 2 // the sealed segment counts the other half
	}
	l.shelf.addUnread(u)
	return last == 0, nil
}
