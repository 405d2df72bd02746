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
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// departure is a segment whose fate is decided: it was confirmed by the storage,
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
type departure struct {
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
	early    bool   // a kept one, to make room
	kept     int64  // its bytes that count as kept; guarded by the shelf's mutex
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
func decide(d vfs.Disk, from, to string) (decided bool, err error) {
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

// depart does what is left to do for a departure. After an error it is tried
// again from time to time. listsLocked changes the lists at the moment at which the
// departure is entered in them, so that no seq is missing there in between.
func (s *shelf) depart(d *departure, listsLocked func()) error {
	s.lock()
	listsLocked()
	s.leaving = append(s.leaving, d)
	s.unlock()
	err := s.advance(d)
	if err != nil {
		s.lock()
		if s.leavingDelay == 0 {
			s.leavingDelay = s.limits.Load().ProbeMin
			s.leavingDue = time.Now().Add(s.leavingDelay)
		}
		s.unlock()
		s.wakeUp()
	}
	return err
}

// advance takes the steps of a departure that are left.
func (s *shelf) advance(d *departure) (err error) {
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
		if err := s.retire(d); err != nil {
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
	s.leaving = slices.DeleteFunc(s.leaving, func(other *departure) bool { return other == d })
	s.sealedBytes -= d.bytes
	d.bytes = 0
	s.keptDeletedLocked(d)
	s.checkBoundsLocked()
	return nil
}

// enterLost counts the lost records, whose notes are durable now.
func (s *shelf) enterLost(d *departure, wasEvicted bool) {
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
func (s *shelf) retire(d *departure) error {
	if d.report != "" {
		return s.quarantineUnread(d)
	}
	gone := d.place + goneSuffix
	if _, err := s.disk.Stat(gone); err == nil { // of an earlier removal
		if err := s.removeDir(gone); err != nil {
			return err
		}
	}
	decided, err := decide(s.disk, d.dir, gone)
	if decided {
		d.dir, d.synced = gone, err == nil
	}
	return err
}

// listPieces hands out the pieces that took the segment's place.
func (s *shelf) listPieces(d *departure) {
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

// deleteGone deletes a segment, but not its name where that is the only one that
// tells the next seq.
func (s *shelf) deleteGone(d *departure) error {
	s.lock()
	newest := d.last+1 >= s.active.next // but for the active segment, nothing else tells the next seq
	keep := !s.active.open && newest
	if keep && !slices.Contains(s.tombstones, d.dir) {
		s.tombstones = append(s.tombstones, d.dir)
	}
	s.unlock()
	if !keep {
		if newest { // the active segment's name may not be durable yet
			if err := s.disk.SyncDir(s.dir); err != nil {
				return err
			}
		}
		return s.removeDir(d.dir)
	}
	if err := s.emptyTombstone(d.dir); err != nil {
		return err
	}
	d.isTombstone = true
	return nil
}

// retryDepartures goes on with those that failed, once it is time. It returns how
// long to wait before the next attempt.
func (s *shelf) retryDepartures() (wait time.Duration) {
	s.lock()
	wait = time.Until(s.leavingDue)
	waiting := slices.Clone(s.leaving)
	delay := s.leavingDelay
	s.unlock()
	if delay == 0 {
		return time.Hour
	}
	if wait > 0 {
		return wait
	}
	failed := false
	for _, d := range waiting {
		if !d.mu.TryLock() { // under way
			failed = true
			continue
		}
		d.mu.Unlock()
		if s.advance(d) != nil {
			failed = true
		}
		s.heartbeat.beat(watching)
	}
	s.lock()
	defer s.unlock()
	if !failed && len(s.leaving) == 0 { // others may have failed meanwhile
		s.leavingDelay = 0
		s.notices = append(s.notices, func() {
			s.opts.Logger.Info("segments that are no longer needed can be deleted again", "trouble", "removal")
		})
		return time.Hour
	}
	s.leavingDelay = min(2*delay, s.limits.Load().ProbeMax)
	s.leavingDue = time.Now().Add(s.leavingDelay)
	return s.leavingDelay
}

// evictionFailsLocked reports whether an evicted segment can't be deleted. To
// evict another would make no room.
func (s *shelf) evictionFailsLocked() bool {
	return slices.ContainsFunc(s.leaving, func(d *departure) bool { return d.evicting })
}

// removeDir deletes a directory of a segment that is no longer needed: its file,
// and itself. What else somebody put there goes to the quarantine with it. It may
// be repeated; a directory that does not exist is fine.
func (b *base) removeDir(dir string) error {
	err := b.disk.RemoveIn(dir, segment.FileName)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = b.disk.RemoveDir(dir)
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR),
		errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		b.found(FoundStray, slog.LevelWarn, "moved to the quarantine what is not part of a log: it was in the place of a segment that is no longer needed",
			"path", dir)
		return b.putAside(dir, err)
	}
	return err
}

// Unconfirmed is the lowest seq of the sealed and kept segments, and of what the disk
// does not give, that is not noted in the storage as lost. What is lost is noted before
// it is off the books, so that the order here matters.
func (l *Log) Unconfirmed() (lowest uint64, err error) {
	if !l.Started() {
		return 0, fmt.Errorf("what is in the log is not known yet: %w", l.Full())
	}
	lowest = l.shelf.unconfirmed()
	noted, err := l.losses.unconfirmed()
	return min(lowest, noted), err
}

func (s *shelf) unconfirmed() (lowest uint64) {
	lowest = maxSeq
	s.lock()
	defer s.unlock()
	for _, one := range slices.Concat(s.sealed, s.kept, s.unread) { // the next start reads what is unread again
		lowest = min(lowest, one.first)
	}
	for _, d := range s.leaving {
		if d.open > 0 {
			lowest = min(lowest, d.open)
		}
	}
	return lowest
}
