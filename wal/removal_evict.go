package wal

import (
	"cmp"
	"fmt"
	"slices"
)

// makeRoom removes kept segments. With DropOldest it then evicts the oldest segments
// until the log is no longer near a bound or no segment is left that may be evicted.
func (s *shelf) makeRoom() (err error) {
	s.removeKept()
	var segments, records int
	for {
		seg := s.holdOldest()
		if seg == nil {
			break
		}
		err = seg.evict()
		seg.Release()
		if err != nil {
			err = fmt.Errorf("evict %s: %w", seg, err)
			break
		}
		segments++
		records += int(seg.ledgerCount())
		s.rounds.begin(loopShelf)
		s.checkDisk()
	}
	if segments > 0 {
		s.opts.Logger.Error("evicted the oldest segments to make room (wal.when_full: drop_oldest)",
			"trouble", "evicted", "segments", segments, "records", records)
	}
	return err
}

// holdOldest returns the segment to evict next, held, or nil.
func (s *shelf) holdOldest() *Segment {
	s.lock()
	defer s.unlock()
	if s.limits.Load().WhenFull != DropOldest || !s.isNearFullLocked() || s.evictionPendingLocked() {
		return nil
	}
	for _, seg := range slices.Concat(s.unread, s.sealed) { // unreadable segments first
		if !seg.held {
			seg.held = true
			return seg
		}
	}
	return nil
}

// evict removes the segment to make room and leaves a loss note. The caller holds the
// segment. After an error, evict may be called again: nothing was decided.
func (s *Segment) evict() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed || s.kept {
		return nil
	}
	l := s.shelf
	note := l.newLossNote(SeqRange{First: s.first, Last: s.last}, LossEvicted)
	if h, err := s.Header(); err == nil {
		note.Node, note.LogID, note.Run = h.Node, h.LogID, h.Run
	}
	note.Hours = []int64{hourOf(cmp.Or(s.firstReceivedAt(), s.sealedAt.UnixMicro()))}
	// A start would list pieces as segments, which would make the note wrong.
	if err := l.deletePieces(&s.unfinishedPieces); err != nil {
		return err
	}
	decided, err := renameOrUndo(l.disk, s.dir, s.sealedPath()+evictedSuffix)
	if !decided {
		return err
	}
	s.removed = true
	d := s.removal(evictedSuffix)
	d.synced, d.evicting = err == nil, true
	d.notes, d.lostRecords, d.lowestOpenSeq = []LossNote{note}, s.ledgerCount(), s.first
	_ = l.beginRemoval(d, func() { l.unlistLocked(s) }) // beginRemoval logs and retries
	return nil
}

// evictionPendingLocked reports whether an evicted segment is not deleted yet. Evicting
// another would make no room either.
func (s *shelf) evictionPendingLocked() bool {
	return slices.ContainsFunc(s.removals, func(d *removal) bool { return d.evicting })
}
