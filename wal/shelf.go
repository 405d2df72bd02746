package wal

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// shelf keeps the list of segments and accounts for the space they take. The roller
// adds sealed segments, the committer reports how the active one grows, and the shipper
// removes what the storage has confirmed. The shelf's goroutine watches the disk,
// removes kept segments and evicts the oldest ones when space runs out, and retries
// removals that failed.
//
// Only the shelf, and the start before it, deletes a sealed segment. It reports to the
// queue when a bound is reached, and writes a durable loss note before lost records
// leave the pending part of the ledger. While its mutex is held it neither logs nor
// waits for a disk.
type shelf struct {
	*base
	queue    *queue
	losses   *losses
	nearFull chan struct{} // wakes the goroutine; buffers one

	salvageMu sync.Mutex // guards the directory salvage/

	mu     sync.Mutex // guards everything below
	active struct {
		open  bool
		bytes int64
		count uint64
		next  uint64    // the seq behind the last acknowledged record
		since time.Time // of the first record
	}
	unsealed    []*active  // segments with records that the roller has not sealed yet, oldest first
	sealed      []*Segment // oldest first
	unread      []*Segment // parts of sealed segments that the disk could not read; the next start reads them
	kept        []*Segment // in the order in which they were confirmed
	keptBytes   int64      // of kept, and of kept segments that are being deleted
	keptEarly   bool       // some were removed early, and none in its time since
	sealedBytes int64      // of unsealed, sealed, unread, kept, and what is being removed

	removals     []*removal    // whose files are not deleted yet
	removalDelay time.Duration // before the next retry; 0 if no removal has failed
	removalDue   time.Time
	tombstones   []string // paths of emptied .gone directories whose names tell the next seq

	tombstonesFailed bool // they could not be deleted

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
		base: b, queue: q, losses: &losses{base: b}, nearFull: make(chan struct{}, 1), more: make(chan struct{}),
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

// committed records that the active segment has grown.
func (s *shelf) committed(a *active) {
	s.lock()
	defer s.unlock()
	s.active.bytes, s.active.count, s.active.since, s.active.next = a.Bytes(), a.count, a.since, a.last()+1
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

// failed records that a commit failed, and the active segment, which may be nil, with
// it.
func (s *shelf) failed(a *active) {
	s.lock()
	defer s.unlock()
	s.stats.CommitErrors++
	if a != nil && a.count > 0 {
		s.stats.Seals[sealFailure]++
		s.retireLocked(a)
	}
	s.active.open, s.active.bytes, s.active.count = false, 0, 0
}

// retireLocked accounts for a segment that was retired, until it is listed as sealed.
func (s *shelf) retireLocked(a *active) {
	s.sealedBytes += a.Bytes()
	s.unsealed = append(s.unsealed, a)
}

// Reasons to seal a segment, for Stats.Seals.
const (
	sealSize     = "size"
	sealAge      = "age"
	sealHour     = "hour"
	sealRequest  = "request"
	sealShutdown = "shutdown"
	sealFailure  = "failure"
)

// countSeal counts a seal by its reason.
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
func (s *shelf) addLocked(one *Segment) {
	at, _ := slices.BinarySearchFunc(s.sealed, one.first, func(other *Segment, first uint64) int { return cmp.Compare(other.first, first) })
	s.sealed = slices.Insert(s.sealed, at, one)
}

// enter lists a sealed segment that the start has found.
func (s *shelf) enter(one *Segment) {
	s.lock()
	defer s.unlock()
	one.found = true
	s.sealedBytes += one.bytes
	s.addLocked(one)
}

// enterUnread accounts for a segment that the start has found and that can't be read.
func (s *shelf) enterUnread(one *Segment) {
	s.lock()
	defer s.unlock()
	s.sealedBytes += one.bytes
	s.unread = append(s.unread, one)
}

// reset undoes what a failed start has listed.
func (s *shelf) reset() {
	s.lock()
	defer s.unlock()
	s.sealed, s.unread, s.removals, s.tombstones = nil, nil, nil, nil
	s.sealedBytes, s.removalDelay = 0, 0
}

// announce wakes those who wait for the list to grow.
func (s *shelf) announce() {
	s.lock()
	defer s.unlock()
	s.announceLocked()
}

// announceLocked wakes those who wait for the list to grow.
func (s *shelf) announceLocked() {
	close(s.more)
	s.more = make(chan struct{})
}

// unlistLocked takes a segment off the lists. Its bytes still count until they are
// deleted.
func (s *shelf) unlistLocked(one *Segment) {
	one.unlisted = true
	s.sealed = slices.DeleteFunc(s.sealed, func(other *Segment) bool { return other == one })
	s.unread = slices.DeleteFunc(s.unread, func(other *Segment) bool { return other == one })
	s.kept = slices.DeleteFunc(s.kept, func(other *Segment) bool { return other == one })
}

// list returns the sealed segments, oldest first, and a channel that is closed once the
// list has grown.
func (s *shelf) list() ([]*Segment, <-chan struct{}) {
	s.lock()
	defer s.unlock()
	return slices.Clone(s.sealed), s.more
}

// replace lists pieces, and parts that the disk could not read, in place of a segment of
// which no record is lost.
func (s *shelf) replace(one *Segment, pieces, unread []*Segment) {
	s.lock()
	defer s.unlock()
	s.unlistLocked(one)
	s.sealedBytes -= one.bytes
	for _, p := range pieces {
		s.addLocked(p)
		s.sealedBytes += p.bytes
	}
	for _, u := range unread {
		u.since = one.since
		s.unread = append(s.unread, u)
		s.sealedBytes += u.bytes
	}
	s.checkBoundsLocked()
	s.announceLocked()
}
