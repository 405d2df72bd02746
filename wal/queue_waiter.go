package wal

import (
	"iter"
	"sync"
)

// Waiter appends records without blocking and reports outcomes by the commit, so that
// an event loop with thousands of clients is woken once for all of them. Its methods
// may be called concurrently.
type Waiter struct {
	log  *Log
	wake func()

	mu       sync.Mutex
	outcomes []Outcome
}

// Outcome is the end of a commit.
type Outcome struct {
	Commit uint64 // the number that Append returned
	Err    error  // nil if all its records are stored; else it wraps ErrCommitFailed
}

// NewWaiter returns a Waiter. It calls wake, from a goroutine of the log, when there
// are outcomes after there were none. wake must not block.
func (l *Log) NewWaiter(wake func()) *Waiter { return &Waiter{log: l, wake: wake} }

// Append copies all of the records or none into the next commit and returns the number
// of that commit, which rises. The outcome follows by Outcomes. After an error there is
// none; without records the number is 0. Like Log.AppendSeq it ranges over recs twice.
func (w *Waiter) Append(recs iter.Seq[*Record]) (commit uint64, err error) {
	c, err := w.log.submit(recs, w)
	if c == nil {
		return 0, err
	}
	return c.number, err
}

// Outcomes returns the outcomes since the last call, in the order of their commits'
// ends.
func (w *Waiter) Outcomes() []Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.outcomes
	w.outcomes = nil
	return all
}

func (w *Waiter) finished(o Outcome) {
	w.mu.Lock()
	first := len(w.outcomes) == 0
	w.outcomes = append(w.outcomes, o)
	w.mu.Unlock()
	if first {
		w.wake()
	}
}
