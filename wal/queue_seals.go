package wal

import (
	"slices"
)

// sealRequest is a request to seal. The committer passes it on once everything that
// was in the queue at its time is committed or aborted. The roller answers it after an
// attempt to seal.
type sealRequest struct {
	lastCommit  uint64 // number of the newest commit at that time
	stagedBytes uint64 // bytes ever staged at that time
	done        chan error
}

// requestSeal requests that the contents of the queue and the active segment be sealed.
// done receives the result.
func (q *queue) requestSeal(done chan error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.seals = append(q.seals, sealRequest{q.lastCommit, q.staged.addedBytes, done})
	q.signal()
	return nil
}

// dueSeals removes and returns the requests whose records are committed or aborted.
// With all it does so with every request.
func (q *queue) dueSeals(all bool) (due []chan error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seals = slices.DeleteFunc(q.seals, func(r sealRequest) bool {
		is := all || r.stagedBytes <= q.staged.takenBytes() && r.lastCommit <= q.finishedCommit
		if is {
			due = append(due, r.done)
		}
		return is
	})
	return due
}
