package wal

import (
	"iter"
	"sync"
)

// Waiter appends records without blocking, and learns of their fate by the commit:
// an event loop with thousands of clients is woken once for all of them. Its
// methods may be called concurrently.
type Waiter struct {
	log  *Log
	wake func()

	mu       sync.Mutex
	outcomes []Outcome
}

// Outcome is the end of a commit.
type Outcome struct {
	Commit uint64 // as Append returned it
	Err    error  // nil: all its records are durable
}

// NewWaiter returns one that calls wake when there are outcomes after there were
// none. wake must not block; it is called from a goroutine of the log.
func (l *Log) NewWaiter(wake func()) *Waiter { return &Waiter{log: l, wake: wake} }

// Append copies records into the next commit, all of them or none, and returns that
// commit's number, which rises. Its outcome follows, with the same errors as
// Log.Append; what is refused now has none. As for Log.AppendSeq, the records are
// gone through twice.
func (w *Waiter) Append(recs iter.Seq[*Record]) (commit uint64, err error) {
	c, err := w.log.submit(recs, w)
	if c == nil {
		return 0, err
	}
	return c.number, err
}

// Outcomes returns those since the last call, in the order in which they came.
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
