package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"sync"
	"sync/atomic"

	"collectord/wal/segment"
)

// Errors by which Append tells why records were not stored.
var (
	// ErrFull means that a bound of the log, or of its disk, is reached. Nothing
	// was stored; it ends by itself once segments were shipped.
	ErrFull = errors.New("log is full")
	// ErrUnavailable means that an earlier commit failed and the disk has not
	// been seen to work since. Nothing was stored; it ends by itself.
	ErrUnavailable = errors.New("log is not writable")
	// ErrCommitFailed means that the disk failed during this commit, or records of it
	// changed while they were copied. The records may be stored or not.
	ErrCommitFailed = errors.New("commit failed")
	// ErrClosed means that the log is shutting down. Nothing was stored.
	ErrClosed = errors.New("log is closed")
)

// Log is an open log directory. Its methods may be called concurrently. doc.go has
// the picture of what works together in it.
type Log struct {
	*base
	lock      io.Closer
	queue     *queue
	committer *committer
	roller    *roller
	shelf     *shelf
	losses    *losses
	done      sync.WaitGroup // of the goroutines

	// What the start finds.
	leftovers []string // segments without records
	gone      []string // names of removed segments
	tornBytes atomic.Uint64

	failedStarts int
	started      atomic.Bool // what is in the directory is known; until then only the start touches it
}

// maxPayload is what the records of one call may take together.
const maxPayload = segment.MaxEntry - segment.FrameStart

// Identity of the log: drawn once for the directory, and once for this start.
// The log id is 0 until the log has started.
func (l *Log) Identity() (logID, run uint64) {
	if !l.Started() {
		return 0, l.runID
	}
	return l.logID, l.runID
}

// Append stores records and returns nil once they are durable, all of them or
// none. It sets their ID and ReceivedAt. One call is one frame. The context is
// looked at before the records are queued, not after.
func (l *Log) Append(ctx context.Context, recs ...Record) error {
	return l.AppendSeq(ctx, func(yield func(*Record) bool) {
		for i := range recs {
			if !yield(&recs[i]) {
				return
			}
		}
	})
}

// AppendSeq is Append for records that need not be in memory all at once. They are
// gone through twice: to be looked at, and to be copied. A record may be forgotten,
// or the next one take its place, when the next one is asked for; its ReceivedAt
// is set just before it is copied. All must have the same source.
func (l *Log) AppendSeq(ctx context.Context, recs iter.Seq[*Record]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := l.submit(recs, nil)
	if c == nil {
		return err
	}
	<-c.done
	return c.err
}

// submit looks at records and hands them to the next commit. Without records there
// is none.
func (l *Log) submit(recs iter.Seq[*Record], waiter *Waiter) (*commit, error) {
	b := batches.Get().(*batch)
	defer b.recycle()
	b.measure(recs)
	if b.count == 0 {
		return nil, nil
	}
	if b.err != nil {
		l.Reject(min(b.source, segment.Sources-1), ReasonUnstorable, b.count)
		return nil, b.err
	}
	c, err := l.queue.append(recs, b, waiter)
	if err != nil {
		return nil, err
	}
	l.queue.signal()
	return c, nil
}

// Enqueue hands records over without waiting for the disk, and returns how many
// there was room for; the rest is counted as rejected. What a crash takes
// before the next commit is lost. All records must have the same source.
func (l *Log) Enqueue(recs ...Record) int {
	if len(recs) == 0 {
		return 0
	}
	return l.queue.enqueue(recs)
}

// Full returns why appends are refused, or nil.
func (l *Log) Full() error {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.refusal
}

// Sealed returns the sealed segments, oldest first, and a channel that is
// closed once there are more.
func (l *Log) Sealed() ([]*Segment, <-chan struct{}) {
	segments, more := l.shelf.list()
	if !l.Started() {
		return nil, more
	}
	return segments, more
}

// Seal seals what was appended before the call. It returns once that is durable
// and listed by Sealed.
func (l *Log) Seal(ctx context.Context) error {
	if !l.Started() {
		return fmt.Errorf("%w: it has not started yet", ErrUnavailable)
	}
	done := make(chan error, 1)
	if err := l.queue.requestSeal(done); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close commits what was accepted, seals the active segment and releases the
// directory. Appends and Enqueues from now on are refused with ErrClosed.
func (l *Log) Close() error {
	if !l.queue.close() {
		return ErrClosed
	}
	close(l.closing)
	l.done.Wait()
	select {
	case spare := <-l.roller.rolls.next:
		spare.segment.Abandon()
	default:
	}
	l.queue.free()
	for _, done := range l.queue.dueSeals(true) { // of a log that did not start
		done <- ErrClosed
	}
	var err error
	if l.Started() {
		err = l.deleteDir(filepath.Join(l.dir, nextName))
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	return err
}
