package wal

import (
	"fmt"
	"log/slog"
	"time"

	"collectord/wal/segment"
)

// salvageName is the directory in which pieces are written. No record has its only copy
// there.
const salvageName = "salvage"

// Salvage replaces a damaged segment by one segment for each unbroken range of intact
// records. It copies damaged bytes to the quarantine, and writes a loss note for each range
// of lost records. It returns false for a segment without damage: failing memory may have
// caused the error that a reader saw. It returns false and ErrVersion for a segment of a
// later format version.
//
// If the disk can't read a part of the file, Salvage returns false and an *UnreadableError.
// At the third attempt it makes segments of the rest, and leaves the unreadable part to the
// next start without a loss note. If the disk can't read that part after a restart either,
// its records are lost.
//
// The pieces are durable before a rename marks the segment as replaced. If a crash comes
// before that rename, the next start deletes the pieces, and the segment is salvaged again.
// If a crash comes after the rename, the next start writes the notes and deletes the
// segment.
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
	want := segment.Wanted{LogID: s.logID, First: seg.first, Last: seg.last, AllowOthers: seg.reread}
	w, err := want.Scan(s.disk, seg.path())
	if err != nil {
		return false, err
	}
	gaps := w.Gaps(seg.first, seg.last)
	if len(gaps) == 0 && w.Reason == nil && !seg.reread {
		return false, nil
	}
	unread := w.Unread != nil && len(gaps) > 0 // the missing records may be in the unreadable part
	if unread {
		if seg.failedReads++; seg.failedReads < readAttempts {
			return false, w.Unread
		}
	}
	s.completeHeader(&w.Header)
	if unread && !seg.reread {
		return s.splitOffUnread(seg, w, gaps)
	}
	if !unread {
		if err := s.quarantineDamaged(seg, w); err != nil {
			return false, err
		}
	}
	hours := hoursOf(w)  // reads the file, so it comes before the rename
	if len(hours) == 0 { // a segment is open for little more than an hour, so this is nearly the hour of its first record
		hours = []int64{hourOf(seg.sealedAt.UnixMicro())}
	}
	pieces, err := s.makePieces(seg, w)
	if err != nil {
		return false, err
	}
	if w.IsWhole(seg.first, seg.last) && !seg.reread {
		seg.removed = true
		s.foundDamage(seg, w, pieces, 0)
		s.replace(seg, pieces, nil)
		return true, nil
	}
	d := seg.removal(damagedSuffix)
	if unread {
		d.dir, d.report = d.basePath+lostSuffix, unreadReport(w, seg)
	}
	decided, err := renameOrUndo(s.disk, seg.dir, d.dir)
	if !decided {
		return false, err
	}
	seg.removed, seg.unfinishedPieces = true, nil
	d.synced, d.pieces, d.lowestOpenSeq = err == nil, pieces, seg.first
	note := LossNote{Node: w.Header.Node, LogID: w.Header.LogID, Run: w.Header.Run, At: time.Now(), Hours: hours}
	d.notes, d.lostRecords = notesOf(note, seg, w, gaps)
	switch {
	case unread:
		s.reportFinding(FoundDamage, slog.LevelError, "a part of a segment is lost: the disk can't read it after a restart either (its file is in the quarantine)",
			"segment", seg.String(), "lost_records", d.lostRecords, "pieces", len(pieces), "reason", w.Reason)
	case seg.reread && d.lostRecords == 0:
		s.opts.Logger.Info("read what the disk could not read before the restart: nothing is lost", "segment", seg.String(), "pieces", len(pieces))
	default:
		s.foundDamage(seg, w, pieces, d.lostRecords)
	}
	_ = s.beginRemoval(d, func() { // beginRemoval logs errors
		s.unlistLocked(seg)
		found := d.lostRecords
		for _, p := range pieces {
			s.sealedBytes += p.bytes
			found += p.ledgerCount()
		}
		if seg.countUncertain { // the ledger has not counted its records yet
			s.queue.countRecovered(found, pending)
		}
	})
	return true, nil
}

// notesOf returns a copy of note for each gap of a segment, and how many records are lost.
func notesOf(note LossNote, seg *Segment, w *segment.Scan, gaps []SeqRange) (notes []LossNote, lostRecords uint64) {
	gaps, skipped := separateSkipped(seg, w, gaps)
	for _, g := range gaps {
		lostRecords += g.Last - g.First + 1
		note.FirstSeq, note.LastSeq, note.Reason = g.First, g.Last, lossReason(w, g.First)
		notes = append(notes, note)
	}
	for _, g := range skipped {
		note.FirstSeq, note.LastSeq, note.Reason = g.First, g.Last, LossSkipped
		notes = append(notes, note)
	}
	return notes, lostRecords
}

func (s *shelf) foundDamage(seg *Segment, w *segment.Scan, pieces []*Segment, lost uint64) {
	s.reportFinding(FoundDamage, slog.LevelError, "a sealed segment is damaged: intact records are kept, the rest is in the quarantine",
		"segment", seg.String(), "lost_records", lost, "pieces", len(pieces), "reason", w.Reason)
}

func (s *shelf) quarantineDamaged(seg *Segment, w *segment.Scan) error {
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
