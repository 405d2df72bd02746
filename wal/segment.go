package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fileName is what the underlying log calls its only file in a segment.
const fileName = "00000000000000000001"

// Names of directories below the log directory. The name of a segment is its
// state; each change is one rename.
const (
	nextName       = "next"
	quarantineName = "quarantine"
)

// maxSeq is above every seq there is.
const maxSeq = 1 << 63

func activeName(first uint64) string       { return fmt.Sprintf("%020d", first) }
func sealedName(first, last uint64) string { return fmt.Sprintf("%020d-%020d", first, last) }

// parseName reads a segment's name. last is 0 for one that is not sealed. ending
// is what follows the range: what the disk did not give has one, and so has a
// segment that is being removed or renamed.
func parseName(name string) (first, last uint64, ending string, ok bool) {
	name, rest, dotted := strings.Cut(name, ".")
	if dotted {
		ending = "." + rest
	}
	state, unread := cutUnread(ending)
	switch state {
	case "", goneSuffix, evictedSuffix, damagedSuffix:
		ok = true
	case lostSuffix, movingSuffix:
		ok = !unread
	}
	a, b, sealed := strings.Cut(name, "-")
	first, okFirst := parseSeq(a)
	ok = ok && okFirst && first > 0
	if !sealed {
		return first, 0, ending, ok && !unread
	}
	last, okLast := parseSeq(b)
	return first, last, ending, ok && okLast && last >= first
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

func parseSeq(s string) (uint64, bool) {
	if len(s) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n < maxSeq
}

// Segment is a sealed part of the log: a durable, contiguous run of records
// that nothing will ever be added to. Its methods may be called concurrently.
type Segment struct {
	log         *Log
	dir         string
	first, last uint64
	bytes       int64
	sealedAt    time.Time

	reread    bool // the disk did not give it to an earlier run
	uncertain bool // it may hold fewer records than its name says, and none is in the ledger

	held  bool      // by Hold or for eviction; guarded by the log's mutex
	since time.Time // when the first record was received, by the monotonic clock, once known; guarded by the log's mutex

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

func (s *Segment) String() string { return sealedName(s.first, s.last) }

func (s *Segment) path() string { return filepath.Join(s.dir, fileName) }

func (s *Segment) open() (*frameReader, error) {
	var disk disk
	if s.log != nil {
		disk = s.log.disk
	}
	return openFrames(disk, s.path())
}

// Header reads who wrote the segment.
func (s *Segment) Header() (SegmentHeader, error) {
	r, err := s.open()
	if err != nil {
		return SegmentHeader{}, err
	}
	defer r.close()
	return r.header, nil
}

// Records reads the segment from its first record to its last and verifies
// every checksum. The record and what it refers to are valid until the next
// step. A *DamageError, or an error of the disk, ends the iteration.
func (s *Segment) Records() iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		if s.reread { // other records may be in front of it
			yield(nil, &DamageError{Path: s.path(), Reason: errors.New("the disk did not give these records before the last start")})
			return
		}
		r, err := s.open()
		if err != nil {
			yield(nil, err)
			return
		}
		defer r.close()
		rec := Record{}
		for seq := s.first; seq <= s.last; {
			if s.log != nil && seq > s.first {
				s.log.giveWay()
			}
			h, payload, err := r.next()
			switch {
			case errors.Is(err, io.EOF):
				err = r.damaged(fmt.Errorf("segment ends before seq %d, its name says %d", seq, s.last))
			case err == nil && h.firstSeq != seq:
				err = r.damaged(fmt.Errorf("frame starts at seq %d where %d belongs", h.firstSeq, seq))
			case err == nil && (h.count == 0 || uint64(h.count) > s.last-seq+1):
				err = r.damaged(fmt.Errorf("frame of %d records does not end by seq %d", h.count, s.last))
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for range h.count {
				if payload, err = r.more(payload); err != nil {
					yield(nil, err)
					return
				}
				if payload, err = decodeRecord(payload, &rec); err != nil {
					yield(nil, r.damaged(err))
					return
				}
				rec.Seq = seq
				if !yield(&rec, nil) {
					return
				}
				seq++
			}
			if extra := len(payload) + r.unread; extra > 0 {
				yield(nil, r.damaged(fmt.Errorf("%d bytes after the last record of a frame", extra)))
				return
			}
		}
	}
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
	l := s.log
	d := s.departure("")
	d.stale, s.made = s.made, nil
	_ = l.depart(d, func() { // logged
		l.unlistLocked(s)
		l.ledger.Pending -= s.counted()
		l.ledger.Shipped += s.counted()
	})
	return nil
}

// departure begins that of a segment which is named with an ending now.
func (s *Segment) departure(ending string) *departure {
	return &departure{
		dir: s.dir + ending, place: filepath.Join(filepath.Dir(s.dir), s.String()), synced: true, last: s.last, bytes: s.bytes,
	}
}

// Hold keeps the segment from being evicted until Release. It returns false if
// that is too late, or another holds it.
func (s *Segment) Hold() bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.held {
		return false
	}
	s.held = true
	return true
}

// Release ends a Hold.
func (s *Segment) Release() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.held = false
}

// evict deletes the segment to make room. The caller holds it. After an error it
// is as it was.
func (s *Segment) evict() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return nil
	}
	l := s.log
	note := l.lossOf(SeqRange{s.first, s.last}, LossEvicted)
	if h, err := s.Header(); err == nil {
		note.Node, note.LogID, note.Run = h.Node, h.LogID, h.Run
	}
	note.Hours = []int64{hourOf(cmp.Or(s.firstReceivedAt(), s.sealedAt.UnixMicro()))}
	// The next start would take them for segments, and the note would not be true.
	if err := l.dropPieces(&s.made); err != nil {
		return err
	}
	decided, err := l.disk.decide(s.dir, s.dir+evictedSuffix)
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

// putAside gives the directory of a segment without records the name of one to be
// deleted, in place of an earlier one of that name. It may be repeated after an
// error.
func (l *Log) putAside(dir string) error {
	parent, gone := filepath.Dir(dir), dir+goneSuffix
	err := l.disk.replace(dir, gone)
	if errors.Is(err, fs.ErrExist) { // what an interrupted removal left in it
		if err := errors.Join(l.disk.syncDir(parent), l.removeDir(gone)); err != nil {
			return err
		}
		err = l.disk.replace(dir, gone)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := l.disk.fs().Stat(gone); err == nil {
			return l.disk.syncDir(parent) // done before
		}
	}
	if err != nil {
		return err
	}
	return l.disk.syncDir(parent)
}
