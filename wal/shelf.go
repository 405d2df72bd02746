package wal

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"collectord/wal/segment"
)

// shelf knows the segments: the sealed ones, which it hands out to be shipped, and
// how much room all of them take. Its goroutine looks at the disk, releases what is
// kept and evicts the oldest when room has to be made, and finishes what could not be deleted at once; nothing
// but the shelf deletes a sealed segment.
//
// The roller gives it segments that are sealed, the committer reports how the active
// one grows, and the shipper confirms. It owes the queue to be told when a bound is
// reached, and a durable note of every loss before the lost records are off the
// books. While its mutex is held it neither logs nor waits for a disk.
type shelf struct {
	*base
	queue    *queue
	losses   *losses
	nearFull chan struct{} // tells the goroutine to look now; holds one

	salvageMu sync.Mutex // guards the directory in which pieces are made

	mu     sync.Mutex // guards everything below
	active struct {
		open  bool
		bytes int64
		count uint64
		next  uint64    // seq of the next record
		since time.Time // of the first record
	}
	unsealed    []*active  // with records, and handed to the roller, oldest first
	sealed      []*Segment // oldest first
	unread      []*Segment // of sealed segments, what the disk did not give; left to the next start
	kept        []*Segment // shipped, in the order of that
	keptBytes   int64      // of those, and of kept ones that are being deleted
	keptEarly   bool       // kept ones were released to make room
	sealedBytes int64      // of all four, and of leaving

	leaving      []*departure  // whose files are not deleted yet
	leavingDelay time.Duration // before the next attempt at those that failed; 0 if none did
	leavingDue   time.Time
	tombstones   []string // directories of removed segments, kept for their names

	more     chan struct{} // closed when sealed grows
	full     error         // the bound that is reached, or nil
	forecast forecast
	stats    Stats
	notices  []notice
}

// notice is a line that is logged once the mutex is free.
type notice func()

func newShelf(b *base, q *queue) *shelf {
	return &shelf{
		base: b, queue: q, losses: &losses{base: b}, nearFull: make(chan struct{}, 1), more: make(chan struct{}),
		stats: newStats(),
	}
}

func (s *shelf) lock() { s.mu.Lock() }

// unlock also logs what there is to be logged.
func (s *shelf) unlock() {
	notices := s.notices
	s.notices = nil
	s.mu.Unlock()
	for _, log := range notices {
		log()
	}
}

// committed notes that the active segment has grown.
func (s *shelf) committed(a *active) {
	s.lock()
	defer s.unlock()
	s.active.bytes, s.active.count, s.active.since, s.active.next = a.Bytes(), a.count, a.since, a.last()+1
	s.checkBoundsLocked()
}

// activated notes that a segment took the place of the active one, which may be nil.
func (s *shelf) activated(a, old *active) {
	s.lock()
	defer s.unlock()
	if old != nil {
		s.retireLocked(old)
	}
	s.active.open = true
	s.active.bytes, s.active.count = a.Bytes(), 0
}

// failed notes that a commit failed, and the active segment, which may be nil, with
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

// retireLocked keeps the books on a segment until it is listed as sealed.
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

// sealedFor counts why a segment is sealed.
func (s *shelf) sealedFor(reason string) {
	s.lock()
	defer s.unlock()
	s.stats.Seals[reason]++
}

// add lists a segment that has been sealed.
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

// addLocked lists a segment in its place.
func (s *shelf) addLocked(one *Segment) {
	at, _ := slices.BinarySearchFunc(s.sealed, one.first, func(other *Segment, first uint64) int { return cmp.Compare(other.first, first) })
	s.sealed = slices.Insert(s.sealed, at, one)
}

// enter lists a segment that the start found.
func (s *shelf) enter(one *Segment) {
	s.lock()
	defer s.unlock()
	one.found = true
	s.sealedBytes += one.bytes
	s.addLocked(one)
}

// enterUnread keeps the books on what the start found and can't be read.
func (s *shelf) enterUnread(one *Segment) {
	s.lock()
	defer s.unlock()
	s.sealedBytes += one.bytes
	s.unread = append(s.unread, one)
}

// reset is what a killed process does with all that a start has found.
func (s *shelf) reset() {
	s.lock()
	defer s.unlock()
	s.sealed, s.unread, s.leaving, s.tombstones = nil, nil, nil, nil // nothing is kept yet
	s.sealedBytes, s.leavingDelay = 0, 0
}

// announce has whoever watches the list look again.
func (s *shelf) announce() {
	s.lock()
	defer s.unlock()
	s.announceLocked()
}

// announceLocked has whoever watches the list look again.
func (s *shelf) announceLocked() {
	close(s.more)
	s.more = make(chan struct{})
}

// unlistLocked takes a segment off those that are to be shipped. Its bytes count
// until they are deleted.
func (s *shelf) unlistLocked(one *Segment) {
	one.unlisted = true
	s.sealed = slices.DeleteFunc(s.sealed, func(other *Segment) bool { return other == one })
	s.unread = slices.DeleteFunc(s.unread, func(other *Segment) bool { return other == one })
	s.kept = slices.DeleteFunc(s.kept, func(other *Segment) bool { return other == one })
}

// list returns the sealed segments, oldest first, and a channel that is closed once
// there are more.
func (s *shelf) list() ([]*Segment, <-chan struct{}) {
	s.lock()
	defer s.unlock()
	return slices.Clone(s.sealed), s.more
}

// exchange puts the pieces of a segment that lost no record, and what the disk did
// not give of it, in its place on the books.
func (s *shelf) exchange(one *Segment, pieces, unread []*Segment) {
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

// bury deletes what is in a segment directory and keeps its name, which tells the
// next seq, until there is an active segment again.
func (s *shelf) bury(dir string) error {
	s.lock()
	if name := dir + goneSuffix; !slices.Contains(s.tombstones, name) {
		s.tombstones = append(s.tombstones, name)
	}
	s.unlock()
	if err := s.nameGone(dir); err != nil {
		return err
	}
	return s.emptyTombstone(dir + goneSuffix)
}

// clearActive puts aside what is in the place of the active segment. Another name
// tells the next seq meanwhile.
func (s *shelf) clearActive(dir string) error {
	gone := dir + goneSuffix
	if err := s.disk.MkdirDurably(gone); err != nil {
		return err
	}
	s.lock()
	if !slices.Contains(s.tombstones, gone) {
		s.tombstones = append(s.tombstones, gone)
	}
	s.unlock()
	return s.putAside(dir, errInTheWay)
}

// emptyTombstone deletes what is in a directory that is kept for its name. Where
// nothing else may tell the log id, the header stays.
func (b *base) emptyTombstone(dir string) error {
	path := filepath.Join(dir, segment.FileName)
	if info, err := b.disk.Stat(path); err == nil && b.unnamed && info.Mode().IsRegular() && !b.disk.HasOtherNames(path) {
		return b.disk.Truncate(path, min(info.Size(), segment.MaxHeader))
	}
	if err := b.disk.RemoveIn(dir, segment.FileName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// deleteTombstones deletes the names that bury kept, once an active segment tells
// the next seq.
func (s *shelf) deleteTombstones() {
	s.lock()
	var names []string
	if s.active.open {
		names, s.tombstones = s.tombstones, nil
	}
	s.unlock()
	if len(names) == 0 {
		return
	}
	err := s.disk.SyncDir(s.dir) // the name of the active segment
	for _, name := range names {
		if err == nil {
			err = s.removeDir(name)
		}
	}
	if err != nil {
		s.opts.Logger.Warn("can't delete the names of removed segments: the next start will", "trouble", "names", "error", err)
	}
}
