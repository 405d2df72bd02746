package wal

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"collectord/wal/vfs"
)

// removal is a segment whose fate is decided: it was confirmed by the storage,
// evicted, or replaced by what was salvaged of it. Nobody reads it any more. What
// is left to do is done again after a failure, by this process or the next.
//
//	confirmed  FIRST-LAST                      -> FIRST-LAST.gone -> deleted
//	evicted    FIRST-LAST.evicted -> loss note -> FIRST-LAST.gone -> deleted
//	salvaged   FIRST-LAST.damaged -> loss note -> FIRST-LAST.gone -> deleted
//	given up   FIRST-LAST.lost    -> loss note -> into the quarantine
//
// The rename to .evicted, .damaged or .lost decides that records are lost, so a
// note that was written is always true. Files are deleted only once .gone is
// durable, so a segment that lost its file is never one of ours.
type removal struct {
	mu          sync.Mutex // guards what follows, and is held during each step
	dir         string     // its present path
	place       string     // its path without an ending
	synced      bool       // the present name is durable
	last        uint64
	bytes       int64
	notes       []LossNote // to be made durable
	lost        uint64     // records, counted once the notes are durable
	pieces      []*Segment // to be listed once the name is .gone: until then the next start counts them
	isTombstone bool       // only the name is left, and is needed
	stale       []string   // directories of pieces that did not take its place: to be deleted before it

	evicting bool   // to make room
	report   string // of what the disk does not give; the file goes to the quarantine with it

	open uint64 // lowest seq that is not confirmed, noted or listed, or 0; guarded by the shelf's mutex
}

// endings of a departing segment's name.
const (
	goneSuffix    = ".gone"    // to be deleted
	evictedSuffix = ".evicted" // to be noted as lost, then deleted
	damagedSuffix = ".damaged" // what its pieces do not hold is to be noted as lost; then deleted
	lostSuffix    = ".lost"    // the same, but it goes to the quarantine
)

// decide renames a segment, which decides its fate. If the name can't be made
// durable, the rename is undone and nothing is decided. decided is true with an
// error if that failed, too.
func renameOrUndo(d vfs.Disk, from, to string) (decided bool, err error) {
	if err := d.RenameNew(from, to); err != nil {
		return false, err
	}
	if err = d.SyncDir(filepath.Dir(to)); err == nil {
		return true, nil
	}
	// A second sync may succeed without having written anything, so the next
	// attempt has to begin with a new rename.
	return d.RenameNew(to, from) != nil, err
}

// depart does what is left to do for a removal. After an error it is tried
// again from time to time. listsLocked changes the lists at the moment at which the
// removal is entered in them, so that no seq is missing there in between.
func (s *shelf) beginRemoval(d *removal, listsLocked func()) error {
	s.lock()
	listsLocked()
	s.removals = append(s.removals, d)
	s.unlock()
	err := s.advance(d)
	if err != nil {
		s.lock()
		if s.removalDelay == 0 {
			s.removalDelay = s.limits.Load().ProbeMin
			s.removalDue = time.Now().Add(s.removalDelay)
		}
		s.unlock()
		s.wakeUp()
	}
	return err
}

// advance takes the steps of a removal that are left.
func (s *shelf) advance(d *removal) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() {
		if err == nil {
			return
		}
		s.lock()
		s.stats.RemovalErrors++
		s.unlock()
		s.opts.Logger.Error("can't delete a segment that is no longer needed: it takes up room until it is deleted, which is tried again",
			"trouble", "removal", "segment", filepath.Base(d.dir), "error", err)
	}()
	if !d.synced {
		if err := s.disk.SyncDir(s.dir); err != nil {
			return err
		}
		d.synced = true
	}
	if err := s.deletePieces(&d.stale); err != nil {
		return err
	}
	evicted := strings.HasSuffix(d.dir, evictedSuffix)
	for len(d.notes) > 0 {
		if err := s.losses.note(d.notes[0]); err != nil {
			return err
		}
		d.notes = d.notes[1:]
	}
	if d.lost > 0 {
		s.enterLost(d, evicted)
	}
	if d.dir != d.place+goneSuffix {
		if err := s.markGone(d); err != nil {
			return err
		}
	}
	s.listPieces(d)
	if !d.isTombstone {
		if err := s.deleteGone(d); err != nil {
			return err
		}
	}
	if d.evicting {
		stockReserve(s.disk, filepath.Join(s.dir, lostName, reserveName)) // before others take the room
	}
	s.lock()
	defer s.unlock()
	s.removals = slices.DeleteFunc(s.removals, func(other *removal) bool { return other == d })
	s.sealedBytes -= d.bytes
	d.bytes = 0
	s.checkBoundsLocked()
	return nil
}

// enterLost counts the lost records, whose notes are durable now.
func (s *shelf) enterLost(d *removal, wasEvicted bool) {
	s.lock()
	defer s.unlock()
	if wasEvicted {
		s.queue.move(d.lost, pending, evicted)
	} else {
		s.queue.move(d.lost, pending, quarantined)
	}
	d.lost = 0
	if len(d.pieces) == 0 {
		d.open = 0
	}
	s.announceLocked() // there is a note to ship
}

// retire gives a departing segment its last name.
func (s *shelf) markGone(d *removal) error {
	if d.report != "" {
		return s.quarantineUnread(d)
	}
	gone := d.place + goneSuffix
	if _, err := s.disk.Stat(gone); err == nil { // of an earlier removal
		if err := s.deleteDir(gone); err != nil {
			return err
		}
	}
	decided, err := renameOrUndo(s.disk, d.dir, gone)
	if decided {
		d.dir, d.synced = gone, err == nil
	}
	return err
}

// listPieces hands out the pieces that took the segment's place.
func (s *shelf) listPieces(d *removal) {
	s.lock()
	defer s.unlock()
	d.open = 0
	if len(d.pieces) == 0 {
		return
	}
	for _, p := range d.pieces {
		s.addLocked(p)
	}
	d.pieces = nil
	s.announceLocked()
}
