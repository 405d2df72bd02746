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
func (l *Log) sealLeftover(s *foundDir, found *foundDirs) (last uint64, dir string, err error) {
	next := found.nextAfter(s)
	dir = filepath.Join(l.dir, s.name)
	w, hidden, err := l.scanLeftover(s, next.first-1)
	if err != nil {
		return 0, dir, err
	}
	if hidden > 0 && next.first == maxSeq {
		if moved, err := l.splitOffTail(s, w.Last(), hidden, w); err != nil || moved {
			return 0, dir, err
		}
	}
	switch {
	case hidden == 0:
		last, err = l.lastAcknowledged(s, found, w)
	case next.first == maxSeq: // the .tail has the others
		last = w.Last()
	case w.Size == 0, l.wasLeft(s, next, w): // left as a .tail: perhaps not all seqs below next have records
		err = w.Unread
	default: // all records below next were acknowledged, and may be in the unreadable part
		last = next.first - 1
	}
	if err != nil {
		return 0, dir, err
	}
	if hidden == 0 && w.Last() == 0 && (w.Missing || w.HeaderEnd == 0 || s.overwritten) {
		return 0, dir, l.putLeftoverAside(s, w, last)
	}
	cut := true
	if w.Size > w.FramesEnd && hidden == 0 {
		if cut, err = l.cutTail(s.name, segment.ByteRange{From: w.FramesEnd, To: w.DataEnd}); err != nil {
			return 0, dir, err
		}
	}
	switch {
	case last > 0:
		dir, err = l.sealAs(dir, segment.SealedName(s.first, last), w)
		if err == nil {
			l.reportFinding(FoundOpenSegment, slog.LevelInfo, "sealed a segment that the last run left open", "segment", s.name, "records", last-s.first+1)
		}
		return last, dir, err
	case cut:
		l.leftovers = append(l.leftovers, s.name)
		return 0, dir, nil
	default:
		if err := l.keepSeqsBelow(s.first); err != nil {
			return 0, dir, err
		}
		return 0, dir, l.putAside(dir, errors.New("bytes of no whole frame"))
	}
}

// scanLeftover scans an unsealed segment for the records up to the seq last. hidden is how
// many records may follow in pages that the disk could not read.
func (l *Log) scanLeftover(s *foundDir, last uint64) (w *segment.Scan, hidden uint64, err error) {
	w, err = l.scanFor(s.name, s.first, last)
	if err == nil && w.Unread != nil && w.Unread.Pages == 0 { // it could not be opened: try again
		w, err = l.scanFor(s.name, s.first, last)
	}
	if errors.Is(err, vfs.ErrNotRegular) { // its directory is put aside unchanged
		w, err = &segment.Scan{Reason: err, Missing: true}, nil
	}
	if err != nil {
		return nil, 0, err
	}
	hidden, err = w.HiddenRecords()
	return w, hidden, err
}

// lastAcknowledged returns the last seq of an unsealed segment that the disk could read, or 0
// if it has no record. It notes seqs behind it that no record will have.
//
// All records below the next segment of the same run were acknowledged. The last seq
// covers missing ones, too, and Salvage notes the loss. A next segment of unknown run
// counts as one of the same run, because a start seals the segments that the previous run
// left open.
func (l *Log) lastAcknowledged(s *foundDir, found *foundDirs, w *segment.Scan) (last uint64, err error) {
	last = w.Last()
	from := max(last+1, s.first) // seqs from here on have no record in the file
	next := found.nextAbove(max(last, s.first), found.nextAfter(s))
	run := cmp.Or(next.run, found.runAfter(next))
	left := l.wasLeft(s, next, w)
	allAcknowledged := run != 0 && (w.Header.Run == run || s.overwritten || w.Header.Run == 0 && !left)
	if run == 0 && next.first < maxSeq && !w.Missing {
		allAcknowledged = !left && (next.sealed || !errors.Is(next.fileError, fs.ErrNotExist))
	}
	if !allAcknowledged {
		if left || run == 0 && next.first < maxSeq {
			err = l.noteSkipped(w, SeqRange{First: from, Last: next.first - 1})
		}
		return last, err
	}
	if missing := next.first - from; missing > 0 {
		l.reportFinding(FoundMissing, slog.LevelError, "the end of a segment is missing: acknowledged records are not there",
			"segment", s.name, "records", missing, "from_seq", from)
	}
	return next.first - 1, nil
}

// wasLeft reports whether an earlier start could neither open nor rename s (leaveSegment). It
// then continued with next, above all seqs that s may hold.
func (l *Log) wasLeft(s, next *foundDir, w *segment.Scan) bool {
	skipped := next.first - s.first
	return skipped == segment.MaxUnsealedRecords || w.Size > 0 && skipped == segment.MaxRecords(l.disk, l.fileOf(s.name))
}

// putLeftoverAside puts aside an unsealed segment without a readable header or record of its
// own. It notes the records up to the seq last as missing, if last is not 0.
func (l *Log) putLeftoverAside(s *foundDir, w *segment.Scan, last uint64) error {
	if last > 0 {
		if err := l.noteMissing(SeqRange{First: s.first, Last: last}, LossMissing); err != nil {
			return err
		}
	}
	if err := l.keepSeqsBelow(s.first); err != nil {
		return err
	}
	dir := filepath.Join(l.dir, s.name)
	if s.overwritten {
		l.reportFinding(FoundNoRecords, slog.LevelError, "put aside a segment: the disk wrote the content of another segment over its records", "segment", s.name)
		return l.putAside(dir, errors.New("it contains another segment's records"))
	}
	l.reportFinding(FoundNoRecords, slog.LevelError, "put aside a segment: neither its header nor a record can be read", "segment", s.name, "reason", w.Reason)
	return l.putAside(dir, errors.New("no readable header or record"))
}

// sealAs syncs and renames an unsealed segment, and returns its present path. A killed
// process may have left records in memory only. They must be durable before the segment
// ships.
func (l *Log) sealAs(dir, name string, w *segment.Scan) (present string, err error) {
	err = l.disk.SyncFile(filepath.Join(dir, segment.FileName))
	if err != nil && (w.Unread == nil || !vfs.IsUnreadable(err)) && !l.tolerates(err) { // the sync may fail for a file that the disk can't read
		return dir, err
	}
	sealed := filepath.Join(l.dir, name)
	if err = l.disk.RenameDurably(dir, sealed); err == nil {
		return sealed, nil
	}
	if !l.tolerates(err) {
		return dir, err
	}
	if _, errStat := l.disk.Stat(dir); errors.Is(errStat, fs.ErrNotExist) {
		return sealed, nil // the rename took effect, but may not be durable
	}
	return dir, nil
}

// noteSkipped notes the seqs r between the end of an unsealed segment and the next name. The
// file of the next name is missing, or a start skipped these seqs because it could not open
// the segment. It is unknown whether a record ever had them, and none will.
func (l *Log) noteSkipped(w *segment.Scan, r SeqRange) error {
	if r.First > r.Last || w.HeaderEnd == 0 && w.Last() == 0 {
		return nil
	}
	n := l.newLossNote(r, LossSkipped)
	n.Run = w.Header.Run
	return l.losses.note(n)
}

// cutTail cuts off the end of a segment's file. It first copies the end to the quarantine,
// unless it is all zeros. It returns false if it left bytes that are not copied.
func (l *Log) cutTail(name string, tail segment.ByteRange) (cut bool, err error) {
	path := l.fileOf(name)
	info, err := l.disk.Stat(path)
	switch {
	case err != nil && l.tolerates(err):
		return false, nil
	case err != nil:
		return false, err
	case vfs.LinkCount(info) > 1: // a .tail has the same file, and needs the rest of it
		return true, nil
	}
	kept, err := l.quarantineTail(name, path, tail)
	if vfs.IsFullOrIO(err) || err != nil && l.tolerates(err) { // the tail may stay, because the sealed name shows where the records end
		l.reportFinding(FoundTornTail, slog.LevelWarn, "left what follows the last whole frame in its place: it can't be copied to the quarantine",
			"segment", name, "offset", tail.From, "error", err)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("quarantine torn tail: %w", err)
	}
	if kept > 0 { // otherwise only zeros were there
		l.tornBytes.Add(uint64(kept))
		l.reportFinding(FoundTornTail, slog.LevelWarn, "cut off what follows the last whole frame: it was not acknowledged",
			"segment", name, "offset", tail.From, "bytes", kept)
	}
	if err = l.disk.Truncate(path, tail.From); err == nil {
		err = l.disk.SyncFile(path)
	}
	if err != nil && !l.tolerates(err) {
		return false, err
	}
	return true, nil
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
