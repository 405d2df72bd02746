package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"collectord/wal/segment"
)

// salvageName is the directory in which the pieces of a damaged segment are
// made. It never holds the only copy of anything.
const salvageName = "salvage"

// Salvage puts one segment for each unbroken range of records that still check
// out in the place of a damaged one. The bytes that do not are kept in the
// quarantine, and a loss note stands for every range of records that is gone.
// A segment of a later format version is left as it is, with ErrVersion; one
// without damage too, and changed is false: it may be memory that failed.
//
// What the disk does not give is an UnreadableError, and changed is false, until
// the segment was read a few times. Then it is set aside for the next start, and
// has no loss note; if that can't read it either, it is damage.
//
// The pieces are durable beside the damaged segment before its name says that it
// was replaced. If that is interrupted earlier, the next start deletes the pieces
// again; later, it writes the notes.
func (l *Log) Salvage(s *Segment) (changed bool, err error) { return l.shelf.salvage(s) }

func (l *shelf) salvage(s *Segment) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.salvageMu.Lock()
	defer l.salvageMu.Unlock()
	if s.removed {
		return false, nil
	}
	if changed, err = l.salvageLocked(s); err != nil {
		err = fmt.Errorf("salvage %s: %w", s, err)
	}
	return changed, err
}

func (l *shelf) salvageLocked(s *Segment) (changed bool, err error) {
	want := segment.Wanted{LogID: l.logID, First: s.first, Last: s.last, Others: s.reread}
	w, err := want.Scan(l.disk, s.path())
	if err != nil {
		return false, err
	}
	gaps := w.Gaps(s.first, s.last)
	if len(gaps) == 0 && w.Reason == nil && !s.reread {
		return false, nil
	}
	unread := w.Unread != nil && len(gaps) > 0 // what is not there may be in what was not read
	if unread {
		if s.attempts++; s.attempts < readAttempts {
			return false, w.Unread
		}
	}
	l.adoptHeader(&w.Header)
	if unread && !s.reread {
		return l.setUnreadAside(s, w, gaps)
	}
	if !unread {
		if err := l.keepDamaged(s, w); err != nil {
			return false, err
		}
	}
	hours := hours(w)
	if len(hours) == 0 { // no segment is open for much longer than an hour
		hours = []int64{hourOf(s.sealedAt.UnixMicro())}
	}
	pieces, err := l.makePieces(s, w)
	if err != nil {
		return false, err
	}
	if w.IsWhole(s.first, s.last) && !s.reread {
		s.removed = true
		l.foundDamage(s, w, pieces, 0)
		l.exchange(s, pieces, nil)
		return true, nil
	}
	d := s.departure(damagedSuffix)
	if unread {
		d.dir, d.report = d.place+lostSuffix, unreadReport(w, s)
	}
	decided, err := decide(l.disk, s.dir, d.dir)
	if !decided {
		return false, err
	}
	s.removed, s.made = true, nil
	d.synced, d.pieces, d.open = err == nil, pieces, s.first
	gaps, skipped := unused(s, w, gaps)
	note := LossNote{Node: w.Header.Node, LogID: w.Header.LogID, Run: w.Header.Run, At: time.Now(), Hours: hours}
	for _, g := range gaps {
		d.lost += g.Last - g.First + 1
		note.FirstSeq, note.LastSeq, note.Reason = g.First, g.Last, lossReason(w, g.First)
		d.notes = append(d.notes, note)
	}
	for _, g := range skipped {
		note.FirstSeq, note.LastSeq, note.Reason = g.First, g.Last, LossSkipped
		d.notes = append(d.notes, note)
	}
	switch {
	case unread:
		l.found(FoundDamage, slog.LevelError, "the disk did not give a part of a segment after a restart either: it is lost, and the file is in the quarantine",
			"segment", s.String(), "lost_records", d.lost, "pieces", len(pieces), "reason", w.Reason)
	case s.reread && d.lost == 0:
		l.opts.Logger.Info("read what the disk did not give before the restart: nothing of it is lost", "segment", s.String(), "pieces", len(pieces))
	default:
		l.foundDamage(s, w, pieces, d.lost)
	}
	_ = l.depart(d, func() { // logged
		l.unlistLocked(s)
		found := d.lost
		for _, p := range pieces {
			l.sealedBytes += p.bytes
			found += p.counted()
		}
		if s.uncertain { // it was not known that they exist
			l.queue.recovered(found, pending)
		}
	})
	return true, nil
}

func (l *shelf) foundDamage(s *Segment, w *segment.Scan, pieces []*Segment, lost uint64) {
	l.found(FoundDamage, slog.LevelError, "a sealed segment was damaged: what still checks out is kept, the rest is in the quarantine",
		"segment", s.String(), "lost_records", lost, "pieces", len(pieces), "reason", w.Reason)
}

// keepDamaged copies the bytes that do not check out to the quarantine.
func (l *shelf) keepDamaged(s *Segment, w *segment.Scan) error {
	if len(w.Damaged) == 0 {
		return nil
	}
	in, end, err := w.Open()
	if err != nil {
		return err
	}
	defer end()
	for _, d := range w.Damaged {
		name := fmt.Sprintf("%s-at-%d", s, d.From)
		if err := l.quarantineBytes(name, s.String(), in, d, w.Reason); err != nil {
			return err
		}
	}
	return nil
}

// makePieces makes the pieces durable under their names, beside the original or,
// if it holds all records, in the place of its file.
func (l *shelf) makePieces(s *Segment, w *segment.Scan) (pieces []*Segment, err error) {
	if err := l.dropPieces(&s.made); err != nil {
		return nil, err
	}
	inPlace := w.IsWhole(s.first, s.last) && !s.reread
	work := filepath.Join(l.dir, salvageName)
	if err := l.clearSalvage(); err != nil {
		return nil, err
	}
	if err := l.disk.MkdirDurably(work); err != nil {
		return nil, err
	}
	for _, p := range w.Pieces {
		name := segment.SealedName(p.First, p.Last)
		size, err := w.Copy(p, filepath.Join(work, name))
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(l.dir, name)
		if inPlace { // same name: exchange the file instead
			dir = s.dir
			if err := l.disk.RenameNew(filepath.Join(work, name, segment.FileName), filepath.Join(dir, segment.FileName)); err != nil {
				return nil, err
			}
			if err := l.disk.SyncDir(dir); err != nil {
				return nil, err
			}
		} else {
			if err := l.clearPiece(name, w); err != nil {
				return nil, err
			}
			s.made = append(s.made, dir)
			if err := l.disk.RenameDurably(filepath.Join(work, name), dir); err != nil {
				return nil, err
			}
		}
		pieces = append(pieces, &Segment{shelf: l, dir: dir, first: p.First, last: p.Last, bytes: size, sealedAt: s.sealedAt})
	}
	return pieces, l.clearSalvage()
}

// dropPieces deletes pieces of a segment that is still there itself, durably: it is
// to be shipped, evicted or salvaged anew as a whole.
func (l *shelf) dropPieces(dirs *[]string) error {
	if len(*dirs) == 0 {
		return nil
	}
	for _, dir := range *dirs {
		// By way of .gone: a piece without its file would look like a loss.
		if err := l.deleteExamined(filepath.Base(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	*dirs = nil
	return nil
}
