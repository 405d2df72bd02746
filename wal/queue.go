package wal

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"collectord/wal/segment"
)

// queue holds the records that wait for the committer. It draws their ids and times in
// the order in which they arrive, and seqs when the committer takes a commit. It keeps
// the ledger.
//
// Each appender gets an outcome for its commit: durable, or an error. The queue never
// waits for a disk, and calls no callback while its mutex is held.
type queue struct {
	*base
	wake chan struct{} // wakes the committer; buffers one signal

	yieldAsked atomic.Int64 // when YieldToIngest was called, in ns since the heartbeat's epoch

	mu       sync.Mutex // guards what follows
	ledger   Ledger
	ids      idSource
	pending  []*commit // not taken by the committer yet, oldest first
	last     uint64    // number of the newest commit
	finished uint64    // number of the newest commit that is durable or aborted
	staged   staging   // UDP records that are in no commit yet
	buffers  [][]byte  // of finished commits, for reuse
	nextSeq  uint64    // first seq of the next commit
	seals    []sealRequested

	refusal error // why appends are refused now, or nil
	broken  error // the failure that made the log unavailable, or nil
	full    error // the bound that is reached, or nil
	closed  bool
}

func newQueue(b *base) *queue {
	return &queue{base: b, wake: make(chan struct{}, 1), ledger: newLedger()}
}

// append adds records to the newest pending commit, or to a new one, and returns it.
// waiter, unless nil, is notified when the commit ends.
//
// Ids and time are drawn and the room is reserved under the mutex; the records, which a
// caller's iterator yields, are copied outside of it.
func (q *queue) append(recs iter.Seq[*Record], b *batch, waiter *Waiter) (*commit, error) {
	q.mu.Lock()
	books := &q.ledger.BySource[b.source]
	if q.refusal != nil {
		defer q.mu.Unlock()
		books.reject(refusalReason(q.refusal), b.count)
		return nil, q.refusal
	}
	books.accept(b.count)
	b.at = q.opts.clock().UnixMicro()
	c := q.commitForLocked(b.at, b.bytes)
	b.room = c.reserve(b.bytes)
	b.ids = q.ids.reserve(b.at/1000, b.unset)
	c.add(b.source, b.count, b.at)
	c.notify(waiter)
	c.copying.Add(1)
	q.mu.Unlock()

	same := false
	defer func() {
		if !same { // also after a panic of the caller: the frame holds records of others, too
			c.invalid.Store(true)
		}
		c.copying.Done()
	}()
	same = b.copy(recs)
	return c, nil
}

// enqueue stages UDP records without waiting and returns how many it accepted.
func (q *queue) enqueue(recs []Record) (n int) {
	limit := q.limits.Load().QueueBytes
	q.mu.Lock()
	books := &q.ledger.BySource[recs[0].Source]
	defer q.signal()
	defer q.mu.Unlock()
	if q.refusal != nil {
		books.reject(refusalReason(q.refusal), len(recs))
		return 0
	}
	for i := range recs {
		switch {
		case recs[i].Check() != nil:
			books.reject(ReasonUnstorable, 1)
		case q.staged.add(&recs[i], limit):
			books.accept(1)
			n++
		default:
			books.reject(ReasonOverloaded, len(recs)-i)
			return n
		}
	}
	return n
}

// signal wakes the committer, now or at its next wait.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// commitForLocked returns the commit that records of size bytes join now.
func (q *queue) commitForLocked(at int64, size int) *commit {
	if n := len(q.pending); n > 0 {
		if q.pending[n-1].takes(size, at) {
			return q.pending[n-1]
		}
		q.completeLocked(q.pending[n-1], at)
	}
	c := q.newCommitLocked(size)
	q.pending = append(q.pending, c)
	return c
}

// completeLocked reserves ids for the UDP records that c still has room for: the next
// commit's ids, drawn from now on, must be above them.
func (q *queue) completeLocked(c *commit, at int64) {
	room := max(0, segment.MaxFrame-(len(c.buf)-segment.EntryRoom)) / segment.RecordOverhead
	c.udp = &udpShare{ids: q.ids.reserve(at/1000, room), at: at, upTo: q.staged.added}
}

// nextCommit takes the oldest commit, or returns nil if nothing waits, and gives it its
// first seq. UDP records fill the room that HTTP records leave; they get their ids and
// times here, or from the udpShare that was reserved when a later commit began.
func (q *queue) nextCommit() (c *commit) {
	q.mu.Lock()
	if len(q.pending) > 0 {
		c = q.pending[0]
		q.pending = slices.Delete(q.pending, 0, 1)
	}
	if q.staged.size() > 0 {
		c = q.fillLocked(c)
	}
	if c != nil {
		c.firstSeq = q.nextSeq
	}
	q.mu.Unlock()
	if c != nil {
		c.copying.Wait()
	}
	return c
}

// fillLocked moves staged records into c, or into a new commit if c is nil.
func (q *queue) fillLocked(c *commit) *commit {
	share := &udpShare{at: q.opts.clock().UnixMicro(), upTo: q.staged.added}
	ids := &q.ids
	switch {
	case c == nil:
		c = q.newCommitLocked(len(q.staged.head()))
	case c.udp != nil:
		share, ids = c.udp, &c.udp.ids
	}
	for {
		head := q.staged.head()
		if head == nil || q.staged.taken() >= share.upTo || !c.takes(len(head), share.at) {
			return c
		}
		rec := append(c.reserve(len(head)), head...)
		id := ids.next(share.at / 1000)
		copy(rec, id[:])
		binary.LittleEndian.PutUint64(rec[16:], uint64(share.at))
		c.add(Source(rec[24]), 1, share.at)
		q.staged.consume(len(head))
	}
}

// stored accounts for a durable commit. The caller wakes its appenders afterwards.
func (q *queue) stored(c *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for s, n := range c.bySource {
		q.ledger.BySource[s].Waiting -= n
		q.ledger.BySource[s].Appended += n
	}
	q.ledger.Pending += uint64(c.count)
	q.nextSeq = c.firstSeq + uint64(c.count)
	q.finished = max(q.finished, c.number)
}

// abort ends commits with an error.
func (q *queue) abort(why error, commits ...*commit) {
	q.mu.Lock()
	for _, c := range commits {
		for s, n := range c.bySource {
			q.ledger.BySource[s].Waiting -= n
			if n > 0 {
				q.ledger.BySource[s].Dropped[ReasonCommitFailed] += n
			}
		}
		c.err = fmt.Errorf("%w: %w", ErrCommitFailed, why)
		q.finished = max(q.finished, c.number)
	}
	q.mu.Unlock()
	for _, c := range commits {
		c.finish()
	}
}

// waiting is the number of records that were accepted and are not committed yet.
func (q *queue) waiting() (n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.ledger.BySource {
		n += q.ledger.BySource[i].Waiting
	}
	return n
}

// setNextSeq sets the first seq of the next commit.
func (q *queue) setNextSeq(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nextSeq = seq
}

// newSegment returns the first seq of a segment that begins now, and draws the random
// start of its ids.
func (q *queue) newSegment() (firstSeq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids.reseed()
	return q.nextSeq
}
