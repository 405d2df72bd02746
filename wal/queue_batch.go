package wal

import (
	"errors"
	"fmt"
	"iter"
	"sync"

	"collectord/wal/segment"
)

// batch is the records of one call on their way into a commit. It is one allocation,
// whatever the iterators over the records capture.
type batch struct {
	// Set by measure.
	count  int
	unset  int // records without an ID
	bytes  int // in a frame
	source Source
	err    error // of the first record that does not fit

	// Set by queue.append.
	room []byte
	ids  idSource
	at   int64 // ReceivedAt, in microseconds since 1970
}

// batches are reused, since what a caller's iterator refers to escapes to the heap.
var batches = sync.Pool{New: func() any { return new(batch) }} //nolint:gochecknoglobals // a pool

func (b *batch) recycle() {
	*b = batch{}
	batches.Put(b)
}

// measure ranges over the records for the first time and adds up what they need.
func (b *batch) measure(recs iter.Seq[*Record]) {
	for r := range recs {
		if b.err == nil {
			b.err = r.Check()
		}
		b.count++
		b.bytes += r.Size()
		b.source = r.Source
		if r.ID == (ID{}) {
			b.unset++
		}
	}
	if b.err == nil && b.bytes > maxPayload {
		b.err = fmt.Errorf("records of %d bytes together, at most %d fit a frame", b.bytes, maxPayload)
	}
}

// copy ranges over them again and encodes them. It returns false if they are not those
// that were measured.
func (b *batch) copy(recs iter.Seq[*Record]) bool {
	for r := range recs {
		if r.Size() > cap(b.room)-len(b.room) {
			return false
		}
		r.ReceivedAt = b.at
		if r.ID == (ID{}) {
			r.ID = b.ids.next(b.at / 1000)
			b.unset--
		}
		b.room = segment.AppendRecord(b.room, r)
		b.count--
	}
	return len(b.room) == cap(b.room) && b.count == 0 && b.unset == 0
}

// errChanged means that the second pass over records yielded other ones than the first.
// Their frame can't be written any more.
var errChanged = errors.New("records changed while they were appended")
