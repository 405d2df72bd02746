package wal

import (
	"slices"
)

// sealRequested waits until what was in the queue when it was made is committed.
type sealRequested struct {
	commit uint64 // number of the newest commit then
	staged uint64 // bytes ever staged by then
	done   chan error
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
