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

// Errors of Append, and the reasons why Enqueue refuses records. Callers match them
// with errors.Is.
var (
	// ErrFull means that the log or its disk has reached a bound (Options.MaxBytes,
	// Options.MinFree). Nothing was stored. Appends succeed again once segments are
	// shipped.
	ErrFull = errors.New("log is full")
	// ErrUnavailable means that a commit failed, or that the log could not start, and
	// that the disk has not worked since. Nothing was stored. The log retries the disk
	// by itself.
	ErrUnavailable = errors.New("log is not writable")
	// ErrCommitFailed means that the disk failed or hung during this commit or an
	// earlier one, or that the records changed while they were copied. The records may
	// be stored or not.
	ErrCommitFailed = errors.New("commit failed")
	// ErrClosed means that the log is shutting down. Nothing was stored.
	ErrClosed = errors.New("log is closed")
)

// Log is an open log directory. Its methods may be called concurrently. The package
// comment describes its parts.
type Log struct {
	*base
	lock      io.Closer
	queue     *queue
	committer *committer
	roller    *roller
	shelf     *shelf
	losses    *losses
	done      sync.WaitGroup // counts all goroutines of the log

	// Results of a start. Only the start uses them, except for tornBytes.
	leftovers []string // directories of unsealed segments without records
	goneNames []string // directories whose names end in .gone
	tornBytes atomic.Uint64
	doubt     error // why the start must not decide yet which records a segment contains

	starting     starting
	failedStarts int
	started      atomic.Bool // the start has read the directory; until then only the start uses it
}

// maxPayload is the max number of bytes that the records of one call may take in a
// frame.
const maxPayload = segment.MaxEntry - segment.FrameStart

// Identity returns the log id and the run. The log id is drawn at random once for the
// directory, and is 0 until the log has started. The run is drawn at random for this
// Open.
func (l *Log) Identity() (logID, run uint64) {
	if !l.Started() {
		return 0, l.runID
	}
	return l.logID, l.runID
}

// Node returns the host's own name (Options.Node).
func (l *Log) Node() string { return l.opts.Node }

// Append stores all of the records or none, as one frame. It sets ReceivedAt of each record, and
// also ID if that is zero. It returns nil once they are durable (with SyncInterval: written). An
// error wraps ErrFull, ErrUnavailable, ErrCommitFailed or ErrClosed, or names the limit of
// Record.Check that a record exceeds. Append checks ctx only before it queues the records, since
// queued records may be stored.
func (l *Log) Append(ctx context.Context, recs ...Record) error {
	return l.AppendSeq(ctx, func(yield func(*Record) bool) {
		for i := range recs {
			if !yield(&recs[i]) {
				return
			}
		}
	})
}

// AppendSeq is Append for records that need not be in memory at the same time. It
// ranges over recs twice, first to measure the records and then to copy them, so both
// passes must yield the same records. The iterator may reuse a record for the next one. It
// must not block, because a commit waits for its second pass. ID and ReceivedAt are set when
// the record is copied. All records must have the same source.
func (l *Log) AppendSeq(ctx context.Context, recs iter.Seq[*Record]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, _, err := l.submit(recs, nil)
	if c == nil {
		return err
	}
	l.queue.signal()
	<-c.done
	return c.err
}

// submit adds records to the next commit and returns that commit and its number, or nil and
// 0 if there are no records. The caller signals the committer.
func (l *Log) submit(recs iter.Seq[*Record], waiter *Waiter) (*commit, uint64, error) {
	b := batches.Get().(*batch)
	defer b.recycle()
	b.measure(recs)
	if b.count == 0 {
		return nil, 0, nil
	}
	if b.err != nil {
		l.Reject(min(b.source, segment.Sources-1), ReasonUnstorable, b.count)
		return nil, 0, b.err
	}
	return l.queue.append(recs, b, waiter)
}

// Enqueue stages records without waiting for the disk and returns how many it accepted.
// It counts the others as rejected: the queue is full (Options.QueueBytes), the log
// refuses records, or a record exceeds a limit of Record.Check. A crash loses records
// that are not committed yet. All records must have the same source.
func (l *Log) Enqueue(recs ...Record) int {
	if len(recs) == 0 {
		return 0
	}
	return l.queue.enqueue(recs)
}

// Full returns the error with which the log refuses appends now, or nil.
func (l *Log) Full() error {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.refusal
}

// Sealed returns the sealed segments, oldest first, and a channel that is closed when
// the list has grown. It lists no segments before the log has started.
func (l *Log) Sealed() ([]*Segment, <-chan struct{}) {
	segments, more := l.shelf.list()
	if !l.Started() {
		return nil, more
	}
	return segments, more
}

// Seal seals the active segment with everything that was appended or enqueued before
// the call. It returns nil once that is durable and listed by Sealed. It returns an
// error if the segment could not be sealed yet, if the log is unavailable or closed, or
// if ctx is done.
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

// Close commits the accepted records, seals the active segment and unlocks the
// directory. From now on the log refuses appends with ErrClosed. A second Close also
// returns ErrClosed.
//
// If the disk does not answer for CommitTimeout, Close returns an error and leaves the
// log as a crash would. The directory is unlocked once the disk answers or the process
// ends.
func (l *Log) Close() error {
	if !l.queue.close() {
		return ErrClosed
	}
	close(l.closing)
	closed := make(chan error, 1)
	go func() { closed <- l.finish() }()
	err := l.await(closed)
	if hung := (*hangError)(nil); errors.As(err, &hung) {
		return fmt.Errorf("the log is left as it is: %w", err)
	}
	return err
}

// finish ends all goroutines and releases the directory.
func (l *Log) finish() error {
	l.done.Wait()
	select {
	case spare := <-l.roller.rolls.next:
		spare.segment.Abandon()
	default:
	}
	l.queue.free()
	for _, done := range l.queue.dueSeals(true) { // a log that never started has no committer to answer them
		done <- ErrClosed
	}
	var err error
	if l.Started() && l.leftNext == "" {
		err = l.deleteDir(filepath.Join(l.dir, nextName))
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	return err
}
