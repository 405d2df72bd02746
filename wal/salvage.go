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

func (s *shelf) salvage(seg *Segment) (changed bool, err error) {
	seg.mu.Lock()
	defer seg.mu.Unlock()
	s.salvageMu.Lock()
	defer s.salvageMu.Unlock()
	if seg.removed || seg.kept {
		return false, nil
	}
	if changed, err = s.salvageLocked(seg); err != nil {
		err = fmt.Errorf("salvage %s: %w", seg, err)
	}
	return changed, err
}

func (s *shelf) salvageLocked(seg *Segment) (changed bool, err error) {
	want := segment.Wanted{LogID: s.logID, First: seg.first, Last: seg.last, Others: seg.reread}
	w, err := want.Scan(s.disk, seg.path())
	if err != nil {
		return false, err
	}
	gaps := w.Gaps(seg.first, seg.last)
	if len(gaps) == 0 && w.Reason == nil && !seg.reread {
		return false, nil
	}
	unread := w.Unread != nil && len(gaps) > 0 // what is not there may be in what was not read
	if unread {
		if seg.attempts++; seg.attempts < readAttempts {
			return false, w.Unread
		}
	}
	s.adoptHeader(&w.Header)
	if unread && !seg.reread {
		return s.setUnreadAside(seg, w, gaps)
	}
	if !unread {
		if err := s.keepDamaged(seg, w); err != nil {
			return false, err
		}
	}
	hours := hours(w)
	if len(hours) == 0 { // no segment is open for much longer than an hour
		hours = []int64{hourOf(seg.sealedAt.UnixMicro())}
	}
	pieces, err := s.makePieces(seg, w)
	if err != nil {
		return false, err
	}
	if w.IsWhole(seg.first, seg.last) && !seg.reread {
		seg.removed = true
		s.foundDamage(seg, w, pieces, 0)
		s.exchange(seg, pieces, nil)
		return true, nil
	}
	d := seg.departure(damagedSuffix)
	if unread {
		d.dir, d.report = d.place+lostSuffix, unreadReport(w, seg)
	}
	decided, err := decide(s.disk, seg.dir, d.dir)
	if !decided {
		return false, err
	}
	seg.removed, seg.made = true, nil
	d.synced, d.pieces, d.open = err == nil, pieces, seg.first
	gaps, skipped := unused(seg, w, gaps)
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
		s.found(FoundDamage, slog.LevelError, "the disk did not give a part of a segment after a restart either: it is lost, and the file is in the quarantine",
			"segment", seg.String(), "lost_records", d.lost, "pieces", len(pieces), "reason", w.Reason)
	case seg.reread && d.lost == 0:
		s.opts.Logger.Info("read what the disk did not give before the restart: nothing of it is lost", "segment", seg.String(), "pieces", len(pieces))
	default:
		s.foundDamage(seg, w, pieces, d.lost)
	}
	_ = s.depart(d, func() { // logged
		s.unlistLocked(seg)
		found := d.lost
		for _, p := range pieces {
			s.sealedBytes += p.bytes
			found += p.counted()
		}
		if seg.uncertain { // it was not known that they exist
			s.queue.recovered(found, pending)
		}
	})
	return true, nil
}

func (s *shelf) foundDamage(seg *Segment, w *segment.Scan, pieces []*Segment, lost uint64) {
	s.found(FoundDamage, slog.LevelError, "a sealed segment was damaged: what still checks out is kept, the rest is in the quarantine",
		"segment", seg.String(), "lost_records", lost, "pieces", len(pieces), "reason", w.Reason)
}

// keepDamaged copies the bytes that do not check out to the quarantine.
func (s *shelf) keepDamaged(seg *Segment, w *segment.Scan) error {
	if len(w.Damaged) == 0 {
		return nil
	}
	in, end, err := w.Open()
	if err != nil {
		return err
	}
	defer end()
	for _, d := range w.Damaged {
		name := fmt.Sprintf("%s-at-%d", seg, d.From)
		if err := s.quarantineBytes(name, seg.String(), in, d, w.Reason); err != nil {
			return err
		}
	}
	return nil
}

// makePieces makes the pieces durable under their names, beside the original or,
// if it holds all records, in the place of its file.
func (s *shelf) makePieces(seg *Segment, w *segment.Scan) (pieces []*Segment, err error) {
	if err := s.deletePieces(&seg.made); err != nil {
		return nil, err
	}
	inPlace := w.IsWhole(seg.first, seg.last) && !seg.reread
	work := filepath.Join(s.dir, salvageName)
	if err := s.clearSalvage(); err != nil {
		return nil, err
	}
	if err := s.disk.MkdirDurably(work); err != nil {
		return nil, err
	}
	for _, p := range w.Pieces {
		name := segment.SealedName(p.First, p.Last)
		size, err := w.Copy(p, filepath.Join(work, name))
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(s.dir, name)
		if inPlace { // same name: exchange the file instead
			dir = seg.dir
			if err := s.disk.RenameNew(filepath.Join(work, name, segment.FileName), filepath.Join(dir, segment.FileName)); err != nil {
				return nil, err
			}
			if err := s.disk.SyncDir(dir); err != nil {
				return nil, err
			}
		} else {
			if err := s.clearPiece(name, w); err != nil {
				return nil, err
			}
			seg.made = append(seg.made, dir)
			if err := s.disk.RenameDurably(filepath.Join(work, name), dir); err != nil {
				return nil, err
			}
		}
		pieces = append(pieces, &Segment{shelf: s, dir: dir, first: p.First, last: p.Last, bytes: size, sealedAt: seg.sealedAt})
	}
	return pieces, s.clearSalvage()
}

// deletePieces deletes pieces of a segment that is still there itself, durably: it is
// to be shipped, evicted or salvaged anew as a whole.
func (s *shelf) deletePieces(dirs *[]string) error {
	if len(*dirs) == 0 {
		return nil
	}
	for _, dir := range *dirs {
		// By way of .gone: a piece without its file would look like a loss.
		if err := s.deleteExamined(filepath.Base(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	*dirs = nil
	return nil
}
