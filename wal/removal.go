package wal

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"collectord/wal/vfs"
)

// removal is a segment that leaves the log: the storage has confirmed it, it was
// evicted, or it was replaced by its salvaged pieces or by its halves. Nothing reads it
// any more. After a failure, this process or the next one repeats the steps that are
// left.
//
//	confirmed  FIRST-LAST                      -> FIRST-LAST.gone -> deleted
//	evicted    FIRST-LAST.evicted -> loss note -> FIRST-LAST.gone -> deleted
//	salvaged   FIRST-LAST.damaged -> loss note -> FIRST-LAST.gone -> deleted
//	given up   FIRST-LAST.lost    -> loss note -> into the quarantine
//	split      FIRST-LAST                      -> FIRST-LAST.gone -> deleted
//
// The rename to .evicted, .damaged or .lost is the decision that records are lost, so
// that a note is written only for a final decision. The file is deleted only once .gone
// is durable, so that a sealed name without its file is never an interrupted removal.
type removal struct {
	mu          sync.Mutex // guards the fields below; held during each step
	dir         string     // present path
	basePath    string     // path as a sealed segment, without an ending
	synced      bool       // the present name is durable
	last        uint64
	bytes       int64
	notes       []LossNote // loss notes that are not durable yet
	lostRecords uint64     // records to move off Pending once the notes are durable
	pieces      []*Segment // listed once .gone is durable: until then a start would count their records twice
	isTombstone bool       // the file is deleted, and the directory is kept for its name
	stalePieces []string   // directories of pieces that did not replace the segment; deleted first

	evicting  bool   // evicted to make room
	early     bool   // was kept, and is removed early to make room
	keptBytes int64  // bytes that count as kept; guarded by the shelf's mutex
	report    string // report for the quarantine about what the disk could not read; empty unless given up

	lowestOpenSeq uint64 // lowest seq not confirmed, noted as lost, or listed; 0 if there is none; guarded by the shelf's mutex
}

// Endings of the name of a segment that is being removed. Each comment gives the next
// steps.
const (
	goneSuffix    = ".gone"    // delete the segment
	evictedSuffix = ".evicted" // note the segment as lost, then delete it
	damagedSuffix = ".damaged" // note as lost the records that no other segment has, then delete the segment
	lostSuffix    = ".lost"    // the same, but move the segment to the quarantine
)

// renameOrUndo renames a segment, which is a decision about it. If the new name can't
// be made durable, it renames the segment back, and nothing is decided. It returns true
// with an error if that fails too.
func renameOrUndo(d vfs.Disk, from, to string) (decided bool, err error) {
	if err := d.RenameNew(from, to); err != nil {
		return false, err
	}
	if err = d.SyncDir(filepath.Dir(to)); err == nil {
		return true, nil
	}
	// A second sync may succeed without having written anything, so the next attempt
	// begins with a new rename.
	return d.RenameNew(to, from) != nil, err
}

// beginRemoval begins a removal and takes its steps. After an error they are retried in
// the background. updateListsLocked takes the segment off its list. It runs under the same
// lock as the addition to the list of removals, so that no seq is ever missing from
// both.
func (s *shelf) beginRemoval(d *removal, updateListsLocked func()) error {
	s.lock()
	updateListsLocked()
	s.removals = append(s.removals, d)
	s.unlock()
	err := s.advance(d)
	if err != nil {
		s.lock()
		s.retryLaterLocked()
		s.unlock()
		s.wakeUp()
	}
	return err
}

// advance takes the remaining steps of a removal.
func (s *shelf) advance(d *removal) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() {
		if err == nil {
			return
		}
		s.lock()
		s.stats.RemovalErrors++
		s.keptStuckLocked(d)
		s.unlock()
		s.opts.Logger.Error("can't delete a segment that was removed: it takes up space until a retry succeeds",
			"trouble", "removal", "segment", filepath.Base(d.dir), "error", err)
	}()
	if !d.synced {
		if err := s.disk.SyncDir(s.dir); err != nil {
			return err
		}
		d.synced = true
	}
	if err := s.deletePieces(&d.stalePieces); err != nil {
		return err
	}
	evicted := strings.HasSuffix(d.dir, evictedSuffix)
	for len(d.notes) > 0 {
		if err := s.losses.note(d.notes[0]); err != nil {
			return err
		}
		d.notes = d.notes[1:]
	}
	if d.lostRecords > 0 {
		s.countLost(d, evicted)
	}
	if d.dir != d.basePath+goneSuffix {
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
		ensureReserve(s.disk, filepath.Join(s.dir, lostName, reserveName)) // before other writes take the space
	}
	s.lock()
	defer s.unlock()
	s.removals = slices.DeleteFunc(s.removals, func(other *removal) bool { return other == d })
	s.sealedBytes -= d.bytes
	d.bytes = 0
	s.keptDeletedLocked(d)
	s.checkBoundsLocked()
	return nil
}

// countLost moves lost records off Pending. The caller has made their notes durable.
func (s *shelf) countLost(d *removal, wasEvicted bool) {
	s.lock()
	defer s.unlock()
	if wasEvicted {
		s.queue.moveRecords(d.lostRecords, pending, evicted)
	} else {
		s.queue.moveRecords(d.lostRecords, pending, quarantined)
	}
	d.lostRecords = 0
	if len(d.pieces) == 0 {
		d.lowestOpenSeq = 0
	}
	s.announceLocked() // the uploader finds the new note
}

// markGone renames the segment to .gone. If the segment was given up, markGone moves it to the
// quarantine instead.
func (s *shelf) markGone(d *removal) error {
	if d.report != "" {
		return s.quarantineUnread(d)
	}
	gone := d.basePath + goneSuffix
	if _, err := s.disk.Stat(gone); err == nil { // left by an earlier removal
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

// listPieces lists the pieces that replace the segment.
func (s *shelf) listPieces(d *removal) {
	s.lock()
	defer s.unlock()
	d.lowestOpenSeq = 0
	if len(d.pieces) == 0 {
		return
	}
	for _, p := range d.pieces {
		s.addLocked(p)
	}
	d.pieces = nil
	s.announceLocked()
}
