package wal

import (
	"errors"
	"fmt"
	"iter"
	"sync"

	"collectord/wal/segment"
)

// batch is the records of one call on their way into a commit. It is one piece of
// memory, whatever the loops over them capture.
type batch struct {
	// What a first look at them finds.
	count  int
	unset  int // of them without an ID
	bytes  int // in a frame
	source Source
	err    error // of the first that does not fit

	// What they get.
	room []byte
	ids  idSource
	at   int64 // received, in microseconds since 1970
}

// batches are used again: what a caller's loop refers to lies on the heap.
var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) recycle() {
	*b = batch{}
	batches.Put(b)
}

// look goes through the records for the first time.
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

// copy goes through them again, and reports whether they are the same.
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

// errChanged is of records that were others at the second look. The frame they are
// in can't be written any more.
var errChanged = errors.New("records changed while they were appended")
