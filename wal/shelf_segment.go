package wal

import (
	"errors"
	"iter"
	"path/filepath"
	"sync"
	"time"

	"collectord/wal/segment"
)

// Segment is a sealed part of the log: a durable, contiguous run of records
// that nothing will ever be added to. Its methods may be called concurrently.
type Segment struct {
	shelf       *shelf
	dir         string
	first, last uint64
	bytes       int64
	sealedAt    time.Time

	reread    bool // the disk did not give it to an earlier run
	uncertain bool // it may hold fewer records than its name says, and none is in the ledger

	unlisted bool      // shipped, evicted, or replaced by others; guarded by the shelf's mutex
	held     bool      // by Hold or for eviction; guarded by the shelf's mutex
	since    time.Time // when the first record was received, by the monotonic clock, once known; guarded by the shelf's mutex

	mu       sync.Mutex // guards what follows, and the removal itself
	removed  bool
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

// SealedAt is when the segment was sealed or, for one found at start, when it
// was last written to.
func (s *Segment) SealedAt() time.Time { return s.sealedAt }

func (s *Segment) String() string { return segment.SealedName(s.first, s.last) }

// named is the path that the segment should have: a disk that fails may not have let
// the start rename it.
func (s *Segment) sealedPath() string {
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
// records as shipped. It is not listed any more then. What can't be deleted now
// is deleted later, by the log itself: that is logged, and no error. Remove may
// be repeated.
func (s *Segment) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return nil
	}
	s.removed = true
	d := s.removal("")
	d.stale, s.made = s.made, nil
	s.shelf.queue.move(s.counted(), pending, shipped)
	_ = s.shelf.beginRemoval(d, func() { s.shelf.unlistLocked(s) }) // logged
	return nil
}

// removal begins that of a segment which is named with an ending now.
func (s *Segment) removal(ending string) *removal {
	dir := s.dir
	if ending != "" {
		dir = s.sealedPath() + ending
	}
	return &removal{
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
