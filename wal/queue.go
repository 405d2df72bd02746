package wal

import (
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"collectord/wal/segment"
)

// queue holds the records that wait for the committer, and keeps the ledger. It draws
// ids and times in the order in which the records arrive, and seqs when the committer
// takes a commit.
//
// Each appender gets an outcome for its commit: durable, or an error. The queue never
// waits for a disk, and calls no callback while it holds its mutex.
type queue struct {
	*base
	wake chan struct{} // wakes the committer; buffers one signal

	committed        atomic.Uint64 // records so far
	yieldRequestedAt atomic.Int64  // time of the last YieldToIngest, in ns since the epoch of rounds

	mu             sync.Mutex // guards the fields below
	ledger         Ledger
	ids            idSource
	pending        []*commit // not taken by the committer yet, oldest first
	lastCommit     uint64    // number of the newest commit
	finishedCommit uint64    // number of the newest commit that is durable or aborted
	staged         staging   // UDP records that are in no commit yet
	buffers        buffers
	spareCommit    *commit // for reuse, or nil
	nextSeq        uint64  // first seq of the next commit
	seals          []sealRequest

	refusal error // why appends are refused now, or nil
	broken  error // failure that made the log unavailable, or nil
	full    error // bound that is reached, or nil
	closed  bool
}

func newQueue(b *base) *queue {
	q := &queue{base: b, wake: make(chan struct{}, 1), ledger: newLedger()}
	q.staged.buffers = &q.buffers
	return q
}

// append adds records to the newest pending commit, or to a new one, and returns that
// commit and its number. waiter, unless nil, is notified when the commit ends; the commit
// itself may then be in use for other records.
//
// It draws the time and reserves ids and room under the mutex. It copies the records, with
// these ids, outside of it, since the caller's iterator yields them. The committer waits for
// the copy, so the iterator must not block.
func (q *queue) append(recs iter.Seq[*Record], b *batch, waiter *Waiter) (c *commit, number uint64, err error) {
	q.mu.Lock()
	ledger := &q.ledger.BySource[b.source]
	if q.refusal != nil {
		defer q.mu.Unlock()
		ledger.reject(refusalReason(q.refusal), b.count)
		return nil, 0, q.refusal
	}
	ledger.accept(b.count)
	b.at = q.opts.clock().UnixMicro()
	c = q.commitForLocked(b.at, b.bytes)
	number = c.number
	b.dst = c.reserve(b.bytes)
	b.ids = q.ids.reserve(b.at/1000, b.unset)
	c.add(b.source, b.count, b.at)
	c.addWaiter(waiter)
	c.copying.Add(1)
	q.mu.Unlock()

	unchanged := false
	defer func() {
		if !unchanged { // also after a panic of the caller, since the frame also has records of other appenders
			c.invalid.Store(true)
		}
		c.copying.Done()
	}()
	unchanged = b.copy(recs)
	return c, number, nil
}

// enqueue stages UDP records without waiting and returns how many it accepted. It wakes
// the committer only when a new block begins, which means for the first record and
// after each full block.
func (q *queue) enqueue(recs []Record) (n int) {
	limit := q.limits.Load().QueueBytes
	q.mu.Lock()
	defer q.mu.Unlock()
	ledger := &q.ledger.BySource[recs[0].Source]
	if q.refusal != nil {
		ledger.reject(refusalReason(q.refusal), len(recs))
		return 0
	}
	blocks, unstorable := len(q.staged.blocks), 0
	for i := range recs {
		if recs[i].Check() != nil {
			unstorable++
		} else if q.staged.add(&recs[i], limit) {
			n++
		} else {
			break
		}
	}
	ledger.accept(n)
	if unstorable > 0 {
		ledger.reject(ReasonUnstorable, unstorable)
	}
	if overflow := len(recs) - n - unstorable; overflow > 0 {
		ledger.reject(ReasonOverloaded, overflow)
	}
	if len(q.staged.blocks) > blocks {
		q.signal()
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

// commitForLocked returns the commit that size bytes of records join now.
func (q *queue) commitForLocked(at int64, size int) *commit {
	if n := len(q.pending); n > 0 {
		if q.pending[n-1].fits(size, at) {
			return q.pending[n-1]
		}
		q.reserveUDPIDsLocked(q.pending[n-1], at)
	}
	c := q.newCommitLocked(q.buffers.take(size))
	q.pending = append(q.pending, c)
	return c
}

// newCommitLocked begins a commit. Its buffer never moves, since appenders copy into it
// concurrently.
func (q *queue) newCommitLocked(buf []byte) *commit {
	q.lastCommit++
	c := q.spareCommit
	if q.spareCommit = nil; c == nil {
		c = new(commit)
	}
	*c = commit{number: q.lastCommit, buf: buf, memory: buf, waiters: c.waiters[:0]}
	return c
}

// reserveUDPIDsLocked reserves ids for the UDP records that c still has room for. They must
// be below the ids of the next commit, which are drawn from now on.
func (q *queue) reserveUDPIDsLocked(c *commit, at int64) {
	room := max(0, segment.MaxFrame-frameSize(c.buf)) / segment.RecordOverhead
	c.udp = &udpShare{ids: q.ids.reserve(at/1000, room), at: at, upTo: q.staged.addedBytes}
}

// nextCommit takes the oldest commit and sets its first seq. If there is none, it
// returns nil and the longest time that staged UDP records still wait for others.
//
// UDP records fill the room that HTTP records leave. They get their ids and times here,
// or from the udpShare that was reserved when a later commit began. If no append waits,
// UDP records form a commit of their own after maxStagedWait. They do so at once if they
// fill a block, if the log is being closed, or if a request to seal waits.
func (q *queue) nextCommit() (c *commit, wait time.Duration) {
	q.mu.Lock()
	switch {
	case len(q.pending) > 0:
		c = q.pending[0]
		q.pending = slices.Delete(q.pending, 0, 1)
		if q.staged.size() > 0 {
			q.fillLocked(c)
		}
	case q.staged.size() == 0:
		wait = time.Hour
	case !q.closed && len(q.seals) == 0:
		wait = q.staged.wait()
	}
	if c == nil && wait > 0 {
		q.mu.Unlock()
		return nil, wait
	}
	var ids idSource
	staged := c == nil
	if staged {
		c, ids = q.takeStagedLocked()
	}
	c.firstSeq = q.nextSeq
	q.mu.Unlock()
	if staged {
		stamp(c.buf[segment.FrameStart:], &ids, c.firstAt)
	}
	c.copying.Wait()
	return c, 0
}

// takeStagedLocked makes a commit of the first block of staged records, and reserves
// their ids.
func (q *queue) takeStagedLocked() (c *commit, ids idSource) {
	b := q.staged.next()
	c = q.newCommitLocked(b.buf)
	c.buf = b.buf[b.from-segment.FrameStart:]
	at := q.opts.clock().UnixMicro()
	for s, n := range b.bySource {
		c.add(Source(s), int(n), at)
	}
	return c, q.ids.reserve(at/1000, int(c.count))
}

// fillLocked copies staged records into the room of c.
func (q *queue) fillLocked(c *commit) {
	share, ids := c.udp, &q.ids
	if share == nil {
		share = &udpShare{at: q.opts.clock().UnixMicro(), upTo: q.staged.addedBytes}
	} else {
		ids = &share.ids
	}
	for {
		head := q.staged.head()
		if head == nil || q.staged.takenBytes() >= share.upTo || !c.fits(len(head), share.at) {
			return
		}
		rec := append(c.reserve(len(head)), head...)
		stamp(rec, ids, share.at)
		c.add(segment.SourceOf(rec), 1, share.at)
		q.staged.consume(len(head))
	}
}

// stored updates the ledger for a durable commit. The caller wakes the commit's
// appenders afterwards.
func (q *queue) stored(c *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for s, n := range c.bySource {
		q.ledger.BySource[s].Waiting -= n
		q.ledger.BySource[s].Appended += n
	}
	q.ledger.Pending += uint64(c.count)
	q.nextSeq = c.firstSeq + uint64(c.count)
	q.finishedCommit = max(q.finishedCommit, c.number)
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
		q.finishedCommit = max(q.finishedCommit, c.number)
	}
	q.mu.Unlock()
	for _, c := range commits {
		c.finish()
	}
}

// waiting returns the number of appended records in commits that the committer has not
// taken yet.
func (q *queue) waiting() (n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.pending {
		n += uint64(c.count)
	}
	return n
}

func (q *queue) setNextSeq(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nextSeq = seq
}

// newSegment returns the first seq of a segment that begins now, and draws a new random
// start for the ids.
func (q *queue) newSegment() (firstSeq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids.reseed()
	return q.nextSeq
}
