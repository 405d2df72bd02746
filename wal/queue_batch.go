package wal

import (
	"errors"
	"fmt"
	"iter"
	"sync"

	"collectord/wal/segment"
)

// batch is the records of one call on their way into a commit. Batches are reused, so an
// append allocates nothing, whatever variables the caller's iterator captures.
type batch struct {
	// Set by measure.
	count  int
	unset  int // number of records without an ID
	bytes  int // size of the records in a frame
	source Source
	err    error // of the first record that exceeds a limit

	// Set by queue.append.
	dst []byte
	ids idSource
	at  int64 // ReceivedAt, in microseconds since 1970

	differs bool // a record of the second pass differs from the measured ones

	measureNext, copyNext func(*Record) bool // the two passes, for the caller's iterator
}

// batches is a pool, because a batch and its functions escape to the heap: a caller's
// iterator refers to them.
var batches = sync.Pool{New: func() any { //nolint:gochecknoglobals // a pool
	b := new(batch)
	b.measureNext, b.copyNext = b.measureRecord, b.copyRecord
	return b
}}

func (b *batch) recycle() {
	*b = batch{measureNext: b.measureNext, copyNext: b.copyNext}
	batches.Put(b)
}

// measure is the first pass over the records. It adds up what they need and checks
// their limits. A range statement would allocate for each call.
func (b *batch) measure(recs iter.Seq[*Record]) {
	recs(b.measureNext)
	if b.err == nil && b.bytes > maxPayload {
		b.err = fmt.Errorf("records of %d bytes together, at most %d fit a frame", b.bytes, maxPayload)
	}
}

func (b *batch) measureRecord(r *Record) bool {
	if b.err == nil {
		b.err = r.Check()
	}
	b.count++
	b.bytes += r.Size()
	b.source = r.Source
	if r.ID == (ID{}) {
		b.unset++
	}
	return true
}

// copy is the second pass over the records, and encodes them. It returns false if they
// differ from the measured ones.
func (b *batch) copy(recs iter.Seq[*Record]) bool {
	recs(b.copyNext)
	return !b.differs && len(b.dst) == cap(b.dst) && b.count == 0 && b.unset == 0
}

func (b *batch) copyRecord(r *Record) bool {
	if b.differs || r.Size() > cap(b.dst)-len(b.dst) {
		b.differs = true
		return false
	}
	r.ReceivedAt = b.at
	if r.ID == (ID{}) {
		r.ID = b.ids.next(b.at / 1000)
		b.unset--
	}
	b.dst = segment.AppendRecord(b.dst, r)
	b.count--
	return true
}

// errChanged means that the second pass over the records yielded others than the first,
// so their frame can't be written.
var errChanged = errors.New("records changed while they were appended")
