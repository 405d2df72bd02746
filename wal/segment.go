package wal

import (
	"cmp"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"collectord/wal/segment"
)

// Names of directories below the log directory. The name of a segment is its
// state; each change is one rename.
const (
	nextName       = "next"
	quarantineName = "quarantine"
)

// parseName reads a segment's name. last is 0 for one that is not sealed. ending is
// what follows the range: what the disk did not give has one, and so has a
// segment that is being removed or renamed.
func parseName(name string) (first, last uint64, ending string, ok bool) {
	first, last, ending, ok = segment.ParseName(name)
	state, unread := cutUnread(ending)
	switch state {
	case "", goneSuffix, evictedSuffix, damagedSuffix:
	case lostSuffix, movingSuffix:
		ok = ok && !unread
	default:
		ok = false
	}
	return first, last, ending, ok && (last > 0 || !unread)
}

// cutUnread cuts off the beginning of an ending that says that the disk did not
// give all of the file.
func cutUnread(ending string) (rest string, unread bool) {
	for _, e := range []string{unreadSuffix, tailSuffix} {
		if rest, unread = strings.CutPrefix(ending, e); unread {
			return rest, true
		}
	}
	return ending, false
}

// Segment is a sealed part of the log: a durable, contiguous run of records
// that nothing will ever be added to. Its methods may be called concurrently.
type Segment struct {
	shelf       *shelf
	dir         string
	first, last uint64
	bytes       int64
	sealedAt    time.Time

	found     bool // at start
	reread    bool // the disk did not give it to an earlier run
	uncertain bool // it may hold fewer records than its name says, and none is in the ledger

	unlisted bool      // shipped, evicted, or replaced by others; guarded by the shelf's mutex
	held     bool      // by Hold or for eviction; guarded by the shelf's mutex
	since    time.Time // when the first record was received, by the monotonic clock, once known; guarded by the shelf's mutex

	mu       sync.Mutex // guards what follows, and the removal itself
	removed  bool
	kept     bool     // see Keep
	relisted bool     // see Relist
	made     []string // directories of pieces, of a salvage that was not finished
	attempts int      // of Salvage that the disk did not let read all of it
	firstAt  int64    // ReceivedAt of the first record, 0 until it is known
}

// FirstSeq is the sequence number of the segment's first record.
func (s *Segment) FirstSeq() uint64 { return s.first }

// LastSeq is the sequence number of the segment's last record.
func (s *Segment) LastSeq() uint64 { return s.last }

// Count is the number of records, at least 1.
func (s *Segment) Count() int { return int(s.last - s.first + 1) }

// Bytes is the size of the segment on disk.
func (s *Segment) Bytes() int64 { return s.bytes }

// FoundAtStart reports whether an earlier run sealed the segment: the storage may have it.
func (s *Segment) FoundAtStart() bool { return s.found }

// SealedAt is when the segment was sealed or, for one found at start, when it
// was last written to.
func (s *Segment) SealedAt() time.Time { return s.sealedAt }

func (s *Segment) String() string { return segment.SealedName(s.first, s.last) }

// named is the path that the segment should have: a disk that fails may not have let
// the start rename it.
func (s *Segment) named() string {
	if filepath.Base(s.dir) == segment.ActiveName(s.first) {
		return filepath.Join(filepath.Dir(s.dir), s.String())
	}
	return s.dir
}

func (s *Segment) path() string { return filepath.Join(s.dir, segment.FileName) }

// Header reads who wrote the segment.
func (s *Segment) Header() (segment.Header, error) { return segment.ReadHeader(s.shelf.disk, s.path()) }

// Records reads the segment from its first record to its last and verifies
// every checksum. The record and what it refers to are valid until the next
// step. A *DamageError, or an error of the disk, ends the iteration.
func (s *Segment) Records() iter.Seq2[*Record, error] {
	if s.reread { // other records may be in front of it
		return func(yield func(*Record, error) bool) {
			yield(nil, &DamageError{Path: s.path(), Reason: errors.New("the disk did not give these records before the last start")})
		}
	}
	return segment.Records(s.shelf.disk, s.path(), s.first, s.last, s.shelf.giveWay)
}

// FirstReceivedAt is when the first record was received, in microseconds since
// 1970; 0 if it can't be read.
func (s *Segment) FirstReceivedAt() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.firstReceivedAt()
}

func (s *Segment) firstReceivedAt() int64 {
	if s.firstAt == 0 && !s.removed {
		for rec, err := range s.Records() {
			if err == nil {
				s.firstAt = rec.ReceivedAt
			}
			break
		}
	}
	return s.firstAt
}

// Remove deletes the segment, which the storage has confirmed, and counts its
// records as shipped, unless it is kept and they are already. It is not listed any more
// then. What can't be deleted now is deleted later, by the log itself: that is logged,
// and no error. Remove may be repeated.
func (s *Segment) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(false)
	return nil
}

// removeLocked is Remove, or that of a kept segment ahead of its time.
func (s *Segment) removeLocked(early bool) {
	if s.removed {
		return
	}
	s.removed = true
	d := s.departure("")
	d.stale, s.made, d.early = s.made, nil, early
	if !s.kept {
		s.shelf.queue.move(s.counted(), pending, shipped)
	}
	_ = s.shelf.depart(d, func() { // logged
		s.shelf.unlistLocked(s)
		if s.kept {
			s.shelf.keptLeavesLocked(d)
		}
	})
}

// departure begins that of a segment which is named with an ending now.
func (s *Segment) departure(ending string) *departure {
	dir := s.dir
	if ending != "" {
		dir = s.named() + ending
	}
	return &departure{
		dir: dir, place: filepath.Join(filepath.Dir(s.dir), s.String()), synced: true, last: s.last, bytes: s.bytes,
	}
}

// Hold keeps the segment from being evicted until Release. It returns false if
// that is too late, or another holds it.
func (s *Segment) Hold() bool {
	s.shelf.lock()
	defer s.shelf.unlock()
	if s.held || s.unlisted {
		return false
	}
	s.held = true
	return true
}

// Release ends a Hold.
func (s *Segment) Release() {
	s.shelf.lock()
	defer s.shelf.unlock()
	s.held = false
}

// evict deletes the segment to make room. The caller holds it. After an error it
// is as it was.
func (s *Segment) evict() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed || s.kept {
		return nil
	}
	l := s.shelf
	note := l.lossOf(SeqRange{First: s.first, Last: s.last}, LossEvicted)
	if h, err := s.Header(); err == nil {
		note.Node, note.LogID, note.Run = h.Node, h.LogID, h.Run
	}
	note.Hours = []int64{hourOf(cmp.Or(s.firstReceivedAt(), s.sealedAt.UnixMicro()))}
	// The next start would take them for segments, and the note would not be true.
	if err := l.deletePieces(&s.made); err != nil {
		return err
	}
	decided, err := decide(l.disk, s.dir, s.named()+evictedSuffix)
	if !decided {
		return err
	}
	s.removed = true
	d := s.departure(evictedSuffix)
	d.synced, d.evicting = err == nil, true
	d.notes, d.lost, d.open = []LossNote{note}, s.counted(), s.first
	_ = l.depart(d, func() { l.unlistLocked(s) }) // logged
	return nil
}

// nameGone gives the directory of a segment without records the name of one to be
// deleted, in place of an earlier one of that name. It may be repeated after an
// error.
func (b *base) nameGone(dir string) error {
	parent, gone := filepath.Dir(dir), dir+goneSuffix
	err := b.disk.Rename(dir, gone)
	if errors.Is(err, fs.ErrExist) { // what an interrupted removal left in it
		if err := errors.Join(b.disk.SyncDir(parent), b.removeDir(gone)); err != nil {
			return err
		}
		err = b.disk.Rename(dir, gone)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := b.disk.Stat(gone); err == nil {
			return b.disk.SyncDir(parent) // done before
		}
	}
	if err != nil {
		return err
	}
	return b.disk.SyncDir(parent)
}
