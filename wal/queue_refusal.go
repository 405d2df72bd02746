package wal

import (
	"errors"
	"fmt"
)

func refusalReason(refusal error) string {
	if errors.Is(refusal, ErrClosed) {
		return ReasonShuttingDown
	}
	return ReasonLogFull
}

// fail refuses appends from now on, and returns the commits that the committer has not
// taken. The caller passes them to abortAll.
func (q *queue) fail(err error) (pending []*commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.broken = err
	q.refuseLocked()
	pending, q.pending = q.pending, nil
	return pending
}

// abortAll aborts commits that are not being written, and recycles each once nothing is
// copied into it.
func (q *queue) abortAll(err error, commits []*commit) {
	q.abort(err, commits...)
	for _, c := range commits {
		c.copying.Wait()
		q.recycle(c)
	}
}

// refuseLocked sets the error with which appends are refused now. closed has priority
// over broken, and broken over full.
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

// setBroken sets why the log is unavailable. With nil the log is available again.
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

// setFull sets which bound is reached. With nil, none is.
func (q *queue) setFull(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.full = err
	q.refuseLocked()
}

// close refuses everything from now on. It returns false if the queue was closed
// before.
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
