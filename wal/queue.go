package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"collectord/wal/segment"
)

// queue is where records wait for the committer. Appenders give it records; it
// draws their ids and times, in the order in which they come, and the committer
// takes them from it, commit by commit. It keeps the ledger.
//
// It owes an answer to every appender: that its commit is durable, or why it is
// not. It waits for no disk, and calls nobody while its mutex is held.
type queue struct {
	*base
	wake chan struct{} // wakes the committer; holds one

	yieldAsked atomic.Int64 // when YieldToIngest was called, since the heartbeat's epoch

	mu       sync.Mutex // guards what follows
	ledger   Ledger
	ids      idSource
	pending  []*commit // oldest first
	last     uint64    // number of the newest commit
	finished uint64    // number of the newest commit that the committer has finished
	staged   staging   // UDP records waiting to join a commit
	buffers  [][]byte  // of finished commits, for reuse
	nextSeq  uint64    // of the next record that is committed
	seals    []sealRequested

	refusal error // why appends are refused now, or nil
	broken  error // the failure that made the log unavailable, or nil
	full    error // the bound that is reached, or nil
	closed  bool
}

// sealRequested waits until what was in the queue when it was made is committed.
type sealRequested struct {
	commit uint64 // number of the newest commit then
	staged uint64 // bytes ever staged by then
	done   chan error
}

func newQueue(b *base) *queue {
	return &queue{base: b, wake: make(chan struct{}, 1), ledger: newLedger()}
}

// append copies records into the next commit and returns it. waiter, unless nil, is
// told of its end.
//
// Under the mutex it draws ids and times and reserves the room; what the caller
// yields is copied outside of it.
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
		if !same { // also where the caller panics: others are in this frame
			c.spoiled.Store(true)
		}
		c.copying.Done()
	}()
	same = b.copy(recs)
	return c, nil
}

// enqueue stages UDP records, without waiting, and returns how many it took.
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

func refusalReason(refusal error) string {
	if errors.Is(refusal, ErrClosed) {
		return ReasonShuttingDown
	}
	return ReasonLogFull
}

// signal wakes the committer, or leaves a note that it will find.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// commitForLocked returns the commit that takes size more bytes now.
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

// completeLocked keeps ids for the UDP records that c still has room for, before
// anything is drawn for the commit behind it.
func (q *queue) completeLocked(c *commit, at int64) {
	room := max(0, segment.MaxFrame-(len(c.buf)-segment.EntryRoom)) / segment.RecordOverhead
	c.udp = &udpShare{ids: q.ids.reserve(at/1000, room), at: at, upTo: q.staged.added}
}

// newCommitLocked begins a commit whose buffer has room for size bytes, and for a
// frame. It never moves. It lies outside of the garbage collector's heap: what is
// not used of it takes no memory, and one for a large frame is given back at once.
func (q *queue) newCommitLocked(size int) *commit {
	q.last++
	c := &commit{number: q.last, done: make(chan struct{})}
	switch n := len(q.buffers); {
	case size > segment.MaxFrame:
		c.buf = mapMemory(segment.FrameStart + size)[:segment.FrameStart]
	case n > 0:
		c.buf, q.buffers = q.buffers[n-1], q.buffers[:n-1]
	default:
		c.buf = mapMemory(frameBuffer)[:segment.FrameStart]
	}
	return c
}

// frameBuffer is the size of a commit's buffer; keptBuffers is how many are kept for
// the next ones.
const (
	frameBuffer = segment.FrameStart + segment.MaxFrame
	keptBuffers = 3
)

// recycle keeps the buffer of a finished commit for the next one, or gives it back.
// Nothing may refer to it any more.
func (q *queue) recycle(c *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cap(c.buf) < 2*frameBuffer && len(q.buffers) < keptBuffers { // not of a large frame
		q.buffers = append(q.buffers, c.buf[:segment.FrameStart])
	} else {
		unmapMemory(c.buf)
	}
	c.buf = nil
}

// nextCommit returns the next commit to write, or nil. UDP records fill the room
// that HTTP leaves. Their ids and times are drawn here, or with the share that was
// kept for them when the next commit began.
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

// fillLocked moves staged records into a commit, which may be nil.
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
		q.staged.drop(len(head))
	}
}

// stored books a durable commit. Its appenders are told by whoever sends it to the
// waker.
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

// abort returns an error to the appenders of commits.
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

// fail refuses appends, and returns the commits that the committer has not taken:
// they are to be aborted.
func (q *queue) fail(err error) (pending []*commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.broken = err
	q.refuseLocked()
	pending, q.pending = q.pending, nil
	return pending
}

// abortPending aborts what fail returned.
func (q *queue) abortPending(err error, pending []*commit) {
	q.abort(err, pending...)
	for _, c := range pending {
		c.copying.Wait()
		q.recycle(c)
	}
}

// refuseLocked works out why appends are refused, if they are.
func (q *queue) refuseLocked() {
	switch {
	case q.closed:
		q.refusal = ErrClosed
	case q.broken != nil:
		q.refusal = fmt.Errorf("%w: %w", ErrUnavailable, q.broken)
	case q.full != nil:
		q.refusal = fmt.Errorf("%w: %w", ErrFull, q.full)
	default:
		q.refusal = nil
	}
}

// setBroken says why the log is unavailable, or with nil that it no longer is.
func (q *queue) setBroken(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.broken = err
	q.refuseLocked()
}

func (q *queue) whyBroken() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.broken
}

// setFull says which bound is reached, or with nil that none is.
func (q *queue) setFull(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.full = err
	q.refuseLocked()
}

// close refuses everything from now on. It returns false if that was so before.
func (q *queue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	q.refuseLocked()
	return true
}

// waiting is how many records wait for a commit.
func (q *queue) waiting() (n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.ledger.BySource {
		n += q.ledger.BySource[i].Waiting
	}
	return n
}

// goOn sets the seq of the next record.
func (q *queue) goOn(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nextSeq = seq
}

// newSegment returns the first seq of a segment that begins now. Its ids are drawn
// anew.
func (q *queue) newSegment() (firstSeq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids.reseed()
	return q.nextSeq
}

// requestSeal asks for what is in the queue, and in the active segment, to be
// sealed. done is told once that was tried.
func (q *queue) requestSeal(done chan error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.seals = append(q.seals, sealRequested{q.last, q.staged.added, done})
	q.signal()
	return nil
}

// dueSeals takes the requests for what is committed by now; all of them if all is
// true.
func (q *queue) dueSeals(all bool) (due []chan error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seals = slices.DeleteFunc(q.seals, func(r sealRequested) bool {
		is := all || r.staged <= q.staged.taken() && r.commit <= q.finished
		if is {
			due = append(due, r.done)
		}
		return is
	})
	return due
}

// free gives back all memory outside of the heap.
func (q *queue) free() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.staged.free()
	for _, b := range q.buffers {
		unmapMemory(b)
	}
	q.buffers = nil
}
