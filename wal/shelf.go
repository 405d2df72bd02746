package wal

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// shelf keeps the list of segments and counts the space they take. The roller adds sealed
// segments, the committer reports how the active one grows, and the shipper removes
// confirmed ones. The shelf's goroutine watches the disk, removes kept segments, evicts the
// oldest segments when space runs out, and retries removals that failed.
//
// Only the shelf, and the start before it, deletes a sealed segment. The shelf reports a
// reached bound to the queue. It writes a durable loss note before lost records leave the
// pending part of the ledger. While its mutex is held it neither logs nor waits for a disk.
type shelf struct {
	*base
	queue  *queue
	losses *losses
	wake   chan struct{} // wakes the goroutine; buffers one

	salvageMu sync.Mutex // guards the directory salvage/

	mu     sync.Mutex // guards everything below
	active struct {
		open    bool
		bytes   int64
		count   uint64
		nextSeq uint64    // one above the seq of the last acknowledged record
		since   time.Time // when the first record was committed
	}
	unsealed         []*active  // segments with records that the roller has not sealed yet, oldest first
	sealed           []*Segment // oldest first
	unread           []*Segment // parts of sealed segments that the disk could not read; the next start reads them
	kept             []*Segment // in the order in which they were confirmed
	keptBytes        int64      // of kept, and of kept segments that are being deleted
	keptRemovedEarly bool       // a kept segment was removed early, and none at its planned time since
	sealedBytes      int64      // of segments that are unsealed, sealed, unread, kept or being removed

	removals     []*removal    // of segments whose files are not deleted yet
	removalDelay time.Duration // before the next retry; 0 if no removal has failed
	removalDue   time.Time
	tombstones   []string // paths of emptied .gone directories whose names preserve the next seq

	tombstonesFailed bool // the last attempt to delete them failed

	more     chan struct{} // closed when sealed or the loss notes grow
	full     error         // the bound that is reached, or nil
	forecast forecast
	stats    Stats
	notices  []notice
}

// notice writes a log line once the mutex is released.
type notice func()

func newShelf(b *base, q *queue) *shelf {
	return &shelf{
		base: b, queue: q, losses: &losses{base: b}, wake: make(chan struct{}, 1), more: make(chan struct{}),
		stats: newStats(),
	}
}

func (s *shelf) lock() { s.mu.Lock() }

// unlock releases the mutex and writes the log lines that are due.
func (s *shelf) unlock() {
	notices := s.notices
	s.notices = nil
	s.mu.Unlock()
	for _, log := range notices {
		log()
	}
}

// committed records that a commit has made the active segment grow.
func (s *shelf) committed(a *active) {
	s.lock()
	defer s.unlock()
	s.active.bytes, s.active.count, s.active.since, s.active.nextSeq = a.Bytes(), a.count, a.since, a.last()+1
	s.checkBoundsLocked()
}

// activated records that a is the active segment, in place of old, which may be nil.
func (s *shelf) activated(a, old *active) {
	s.lock()
	defer s.unlock()
	if old != nil {
		s.retireLocked(old)
	}
	s.active.open = true
	s.active.bytes, s.active.count = a.Bytes(), 0
}

// commitFailed records that a commit failed, and with it the active segment a, which
// may be nil.
func (s *shelf) commitFailed(a *active) {
	s.lock()
	defer s.unlock()
	s.stats.CommitErrors++
	if a != nil && a.count > 0 {
		s.stats.Seals[sealedByFailure]++
		s.retireLocked(a)
	}
	s.active.open, s.active.bytes, s.active.count = false, 0, 0
}

// retireLocked counts a retired segment until it is listed as sealed.
func (s *shelf) retireLocked(a *active) {
	s.sealedBytes += a.Bytes()
	s.unsealed = append(s.unsealed, a)
}

// Reasons to seal a segment, for Stats.Seals.
const (
	sealedBySize     = "size"
	sealedByAge      = "age"
	sealedByHour     = "hour"
	sealedByRequest  = "request"
	sealedByShutdown = "shutdown"
	sealedByFailure  = "failure"
)

func (s *shelf) countSeal(reason string) {
	s.lock()
	defer s.unlock()
	s.stats.Seals[reason]++
}

// add lists a segment that the roller has sealed.
func (s *shelf) add(a *active) {
	s.lock()
	defer s.unlock()
	s.unsealed = slices.DeleteFunc(s.unsealed, func(other *active) bool { return other == a })
	s.addLocked(&Segment{
		shelf: s, dir: a.dir, first: a.first, last: a.last(), bytes: a.Bytes(),
		sealedAt: time.Now(), since: a.since, firstAt: a.firstAt,
	})
	s.announceLocked()
}

// addLocked inserts a segment by its first seq.
func (s *shelf) addLocked(seg *Segment) {
	at, _ := slices.BinarySearchFunc(s.sealed, seg.first, func(other *Segment, first uint64) int { return cmp.Compare(other.first, first) })
	s.sealed = slices.Insert(s.sealed, at, seg)
}

// addFound lists a sealed segment that the start has found.
func (s *shelf) addFound(seg *Segment) {
	s.lock()
	defer s.unlock()
	seg.foundAtStart = true
	s.sealedBytes += seg.bytes
	s.addLocked(seg)
}

// addUnread lists a segment that the start has found and could not read.
func (s *shelf) addUnread(seg *Segment) {
	s.lock()
	defer s.unlock()
	s.sealedBytes += seg.bytes
	s.unread = append(s.unread, seg)
}

// reset undoes what a failed start has listed.
func (s *shelf) reset() {
	s.lock()
	defer s.unlock()
	s.sealed, s.unread, s.removals, s.tombstones = nil, nil, nil, nil
	s.sealedBytes, s.removalDelay = 0, 0
}

// announce wakes all goroutines that wait for new segments or loss notes.
func (s *shelf) announce() {
	s.lock()
	defer s.unlock()
	s.announceLocked()
}

func (s *shelf) announceLocked() {
	close(s.more)
	s.more = make(chan struct{})
}

// unlistLocked takes a segment off the lists. Its bytes count until they are deleted.
func (s *shelf) unlistLocked(seg *Segment) {
	seg.unlisted = true
	s.sealed = slices.DeleteFunc(s.sealed, func(other *Segment) bool { return other == seg })
	s.unread = slices.DeleteFunc(s.unread, func(other *Segment) bool { return other == seg })
	s.kept = slices.DeleteFunc(s.kept, func(other *Segment) bool { return other == seg })
}

// list returns the sealed segments, oldest first, and a channel that is closed when the
// list or the loss notes grow.
func (s *shelf) list() ([]*Segment, <-chan struct{}) {
	s.lock()
	defer s.unlock()
	return slices.Clone(s.sealed), s.more
}

// replace lists pieces and unreadable parts in place of a segment that has lost no record.
func (s *shelf) replace(seg *Segment, pieces, unread []*Segment) {
	s.lock()
	defer s.unlock()
	s.unlistLocked(seg)
	s.sealedBytes -= seg.bytes
	for _, p := range pieces {
		s.addLocked(p)
		s.sealedBytes += p.bytes
	}
	for _, u := range unread {
		u.since = seg.since
		s.unread = append(s.unread, u)
		s.sealedBytes += u.bytes
	}
	s.checkBoundsLocked()
	s.announceLocked()
}
