package wal

import (
	"errors"
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
	mu      sync.Mutex // guards what follows, and is held during each step
	dir     string     // its present path
	place   string     // its path without an ending
	synced  bool       // the present name is durable
	last    uint64
	bytes   int64
	notes   []LossNote // to be made durable
	lost    uint64     // records, counted once the notes are durable
	pieces  []*Segment // to be listed once the name is .gone: until then the next start counts them
	emptied bool       // only the name is left, and is needed
	stale   []string   // directories of pieces that did not take its place: to be deleted before it

	evicting bool   // to make room
	report   string // of what the disk does not give; the file goes to the quarantine with it

	open uint64 // lowest seq that is not confirmed, noted or listed, or 0; guarded by the log's mutex
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

// unlistLocked takes a segment off those that are to be shipped. Its bytes count
// until they are deleted.
func (l *Log) unlistLocked(s *Segment) {
	l.sealed = slices.DeleteFunc(l.sealed, func(other *Segment) bool { return other == s })
	l.unread = slices.DeleteFunc(l.unread, func(other *Segment) bool { return other == s })
}

// depart does what is left to do for a departure. After an error it is tried
// again from time to time. booksLocked changes the books at the moment at which
// the departure is entered in them, so that no seq is missing there in between.
func (l *Log) depart(d *departure, booksLocked func()) error {
	l.mu.Lock()
	booksLocked()
	l.leaving = append(l.leaving, d)
	l.mu.Unlock()
	err := l.advance(d)
	if err != nil {
		l.mu.Lock()
		if l.leavingDelay == 0 {
			l.leavingDelay = l.opts.ProbeMin
			l.leavingDue = time.Now().Add(l.leavingDelay)
		}
		l.mu.Unlock()
		l.wakeWatcher()
	}
	return err
}

// advance takes the steps of a departure that are left.
func (l *Log) advance(d *departure) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() {
		if err == nil {
			return
		}
		l.mu.Lock()
		l.stats.RemovalErrors++
		l.mu.Unlock()
		l.opts.Logger.Error("can't delete a segment that is no longer needed: it takes up room until it is deleted, which is tried again",
			"trouble", "removal", "segment", filepath.Base(d.dir), "error", err)
	}()
	if !d.synced {
		if err := l.disk.SyncDir(l.dir); err != nil {
			return err
		}
		d.synced = true
	}
	if err := l.dropPieces(&d.stale); err != nil {
		return err
	}
	evicted := strings.HasSuffix(d.dir, evictedSuffix)
	for len(d.notes) > 0 {
		if err := l.noteLoss(d.notes[0]); err != nil {
			return err
		}
		d.notes = d.notes[1:]
	}
	if d.lost > 0 {
		l.enterLost(d, evicted)
	}
	if d.dir != d.place+goneSuffix {
		if err := l.retire(d); err != nil {
			return err
		}
	}
	l.list(d)
	if !d.emptied {
		if err := l.deleteGone(d); err != nil {
			return err
		}
	}
	if d.evicting {
		stockReserve(l.disk, filepath.Join(l.dir, lostName, reserveName)) // before others take the room
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = slices.DeleteFunc(l.leaving, func(other *departure) bool { return other == d })
	l.sealedBytes -= d.bytes
	d.bytes = 0
	l.checkBoundsLocked()
	return nil
}

// enterLost counts the lost records, whose notes are durable now.
func (l *Log) enterLost(d *departure, evicted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ledger.Pending -= d.lost
	if evicted {
		l.ledger.Evicted += d.lost
	} else {
		l.ledger.Quarantined += d.lost
	}
	d.lost = 0
	if len(d.pieces) == 0 {
		d.open = 0
	}
	l.announceLocked() // there is a note to ship
}

// announceLocked has whoever watches Sealed look again.
func (l *Log) announceLocked() {
	close(l.sealedMore)
	l.sealedMore = make(chan struct{})
}

// retire gives a departing segment its last name.
func (l *Log) retire(d *departure) error {
	if d.report != "" {
		return l.quarantineUnread(d)
	}
	gone := d.place + goneSuffix
	if _, err := l.disk.Stat(gone); err == nil { // of an earlier removal
		if err := l.removeDir(gone); err != nil {
			return err
		}
	}
	decided, err := decide(l.disk, d.dir, gone)
	if decided {
		d.dir, d.synced = gone, err == nil
	}
	return err
}

// list hands out the pieces that took the segment's place.
func (l *Log) list(d *departure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.open = 0
	if len(d.pieces) == 0 {
		return
	}
	for _, p := range d.pieces {
		l.addSealedLocked(p)
	}
	d.pieces = nil
	l.announceLocked()
}

// deleteGone deletes a segment, but not its name where that is the only one that
// tells the next seq.
func (l *Log) deleteGone(d *departure) error {
	l.mu.Lock()
	keep := !l.active.open && d.last >= l.acked
	if keep && !slices.Contains(l.emptied, d.dir) {
		l.emptied = append(l.emptied, d.dir)
	}
	l.mu.Unlock()
	if !keep {
		return l.removeDir(d.dir)
	}
	if err := l.emptyGone(d.dir); err != nil {
		return err
	}
	d.emptied = true
	return nil
}

// retryDepartures goes on with those that failed, once it is time. It returns how
// long to wait before the next attempt.
func (l *Log) retryDepartures() (wait time.Duration) {
	l.mu.Lock()
	wait = time.Until(l.leavingDue)
	waiting := slices.Clone(l.leaving)
	delay := l.leavingDelay
	l.mu.Unlock()
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
		if l.advance(d) != nil {
			failed = true
		}
		l.pulse.beat(watching)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !failed {
		l.leavingDelay = 0
		l.opts.Logger.Info("segments that are no longer needed can be deleted again", "trouble", "removal")
		return time.Hour
	}
	l.leavingDelay = min(2*delay, l.opts.ProbeMax)
	l.leavingDue = time.Now().Add(l.leavingDelay)
	return l.leavingDelay
}

// evictionFailsLocked reports whether an evicted segment can't be deleted. To
// evict another would make no room.
func (l *Log) evictionFailsLocked() bool {
	return slices.ContainsFunc(l.leaving, func(d *departure) bool { return d.evicting })
}

// removeDir deletes a directory of a segment that is no longer needed: its file,
// and itself. What else somebody put there goes to the quarantine with it. It may
// be repeated; a directory that does not exist is fine.
func (l *Log) removeDir(dir string) error {
	err := l.disk.RemoveIn(dir, segment.FileName)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = l.disk.RemoveDir(dir)
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR):
		l.found(FoundStray, slog.LevelWarn, "moved to the quarantine what is not part of a log: it was in the place of a segment that is no longer needed",
			"path", dir)
		return l.quarantinePath(dir)
	}
	return err
}

// Unconfirmed is the lowest seq of the sealed segments, and of what the disk does
// not give, that is neither in the storage nor noted there as lost. What is lost is
// noted before it is off the books, so that the order here matters.
func (l *Log) Unconfirmed() (lowest uint64, err error) {
	lowest = maxSeq
	l.mu.Lock()
	for _, s := range l.sealed {
		lowest = min(lowest, s.first)
	}
	for _, s := range l.unread { // the next start reads these again
		lowest = min(lowest, s.first)
	}
	for _, d := range l.leaving {
		if d.open > 0 {
			lowest = min(lowest, d.open)
		}
	}
	notes := l.stats.LossNotes
	l.mu.Unlock()
	if notes > 0 {
		waiting, err := l.Losses()
		if err != nil {
			return 0, err
		}
		for _, n := range waiting {
			lowest = min(lowest, n.FirstSeq)
		}
	}
	l.lossMu.Lock()
	defer l.lossMu.Unlock()
	for _, r := range l.unreadNotes {
		lowest = min(lowest, max(1, r.First))
	}
	return lowest, nil
}
