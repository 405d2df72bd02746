package wal

import (
	"slices"
)

// sealRequested is a request to seal, answered once everything that was in the queue
// when it was made is committed or aborted, and sealed.
type sealRequested struct {
	commit uint64 // number of the newest commit at that time
	staged uint64 // bytes ever staged at that time
	done   chan error
}

// requestSeal asks for the queue and the active segment to be sealed. done gets the
// result.
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

// dueSeals takes the requests whose records are committed or aborted by now; with all,
// every request.
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
