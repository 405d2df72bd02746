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
