package wal

import (
	"errors"
	"iter"
	"path/filepath"
	"sync"
	"time"

	"collectord/wal/segment"
)

// Segment is a sealed segment: a durable, contiguous range of records that never grows. Its
// methods may be called concurrently.
type Segment struct {
	shelf       *shelf
	dir         string
	first, last uint64
	bytes       int64
	sealedAt    time.Time

	foundAtStart   bool // by the start
	reread         bool // an .unread or .tail of an earlier run, whose file may contain other records, too
	countUncertain bool // it may contain fewer records than its name claims; the ledger counts none of them

	unlisted bool      // it was kept, removed or replaced; guarded by the shelf's mutex
	held     bool      // by Hold or by an eviction; guarded by the shelf's mutex
	since    time.Time // when the first record was committed (if found at start: received), monotonic; zero until known; guarded by the shelf's mutex

	mu               sync.Mutex // guards the fields below; held while the segment is removed, salvaged or split
	removed          bool
	kept             bool     // see Keep
	relisted         int      // see Relist
	unfinishedPieces []string // directories of pieces of an unfinished salvage or split
	failedReads      int      // salvages in which the disk could not read all of the file
	firstAt          int64    // ReceivedAt of the first record; 0 until known
}

// FirstSeq is the seq of the segment's first record.
func (s *Segment) FirstSeq() uint64 { return s.first }

// LastSeq is the seq of the segment's last record.
func (s *Segment) LastSeq() uint64 { return s.last }

// Count is the number of records according to the segment's name, at least 1.
func (s *Segment) Count() int { return int(s.last - s.first + 1) }

// Bytes is the size of the segment on disk. If the file has several names, it is this
// segment's share.
func (s *Segment) Bytes() int64 { return s.bytes }

// FoundAtStart reports whether an earlier run wrote the segment. The storage may already
// have it.
func (s *Segment) FoundAtStart() bool { return s.foundAtStart }

// SealedAt is when the segment was sealed. For a segment found at start it is when the file
// was last modified.
func (s *Segment) SealedAt() time.Time { return s.sealedAt }

func (s *Segment) String() string { return segment.SealedName(s.first, s.last) }

// sealedPath is the path with the segment's sealed name. It differs from dir if the start
// could not rename an unsealed segment.
func (s *Segment) sealedPath() string {
	if filepath.Base(s.dir) == segment.ActiveName(s.first) {
		return filepath.Join(filepath.Dir(s.dir), s.String())
	}
	return s.dir
}

func (s *Segment) path() string { return filepath.Join(s.dir, segment.FileName) }

// Header reads the segment's header, which names the log, the run and the node that wrote
// it. It returns a *DamageError if the header is damaged.
func (s *Segment) Header() (segment.Header, error) { return segment.ReadHeader(s.shelf.disk, s.path()) }

// Records reads the segment's records in order and verifies every checksum. A record, and
// the memory it refers to, is valid until the next step. A *DamageError or an error of the
// disk ends the iteration.
func (s *Segment) Records() iter.Seq2[*Record, error] {
	if s.reread { // only Salvage can read these, because other records may precede them
		return func(yield func(*Record, error) bool) {
			yield(nil, &DamageError{Path: s.path(), Reason: errors.New("the disk could not read these records before the last start")})
		}
	}
	return segment.Records(s.shelf.disk, s.path(), s.first, s.last, s.shelf.newReaderPace().giveWay)
}

// FirstReceivedAt is when the first record was received, in microseconds since 1970. It is
// 0 if that record can't be read.
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

// Remove removes a segment that the storage has confirmed: it takes it off the list, counts
// its records as shipped (those of a kept segment already are), and deletes its file. A
// failed deletion is logged and retried. Remove may be repeated and always returns nil.
func (s *Segment) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(false)
	return nil
}

// removeLocked removes the segment; early means that a kept segment goes before its planned
// time.
func (s *Segment) removeLocked(early bool) {
	if s.removed {
		return
	}
	s.removed = true
	d := s.removal("")
	d.stalePieces, s.unfinishedPieces, d.early = s.unfinishedPieces, nil, early
	if !s.kept {
		s.shelf.queue.moveRecords(s.ledgerCount(), pending, shipped)
	}
	_ = s.shelf.beginRemoval(d, func() { // beginRemoval logs errors
		s.shelf.unlistLocked(s)
		if s.kept {
			s.shelf.removeKeptLocked(d)
		}
	})
}

// removal returns the removal of a segment whose name already has the given ending.
func (s *Segment) removal(ending string) *removal {
	dir := s.dir
	if ending != "" {
		dir = s.sealedPath() + ending
	}
	return &removal{
		dir: dir, basePath: filepath.Join(filepath.Dir(s.dir), s.String()), synced: true, last: s.last, bytes: s.bytes,
	}
}

// Hold prevents the eviction of the segment until Release. It returns false if the segment
// is no longer listed or is already held.
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
