package wal

import (
	"slices"
)

// sealRequested is a request to seal. The committer passes it on once everything that
// was in the queue at its time is committed or aborted. The roller answers it after an
// attempt to seal.
type sealRequested struct {
	commit uint64 // number of the newest commit at that time
	staged uint64 // bytes ever staged at that time
	done   chan error
}

// requestSeal requests that the contents of the queue and the active segment be sealed.
// done receives the result.
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

// dueSeals removes and returns the requests whose records are committed or aborted.
// With all it does so with every request.
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
