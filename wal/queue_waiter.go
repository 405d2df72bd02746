package wal

import (
	"iter"
	"sync"
)

// Waiter is told of the outcomes of appends that do not block, by the commit, so that an
// event loop with thousands of clients is woken once for all of them. Its methods may be
// called concurrently.
type Waiter struct {
	wake func()

	mu       sync.Mutex
	outcomes []Outcome
}

// Outcome is the end of a commit.
type Outcome struct {
	Commit uint64 // the number that AppendTo returned
	Err    error  // nil if all its records are stored; else it wraps ErrCommitFailed
}

// NewWaiter returns a Waiter. It calls wake when there are outcomes after there were
// none, from a goroutine of the log. wake must not block.
func NewWaiter(wake func()) *Waiter { return &Waiter{wake: wake} }

// Deliver adds an outcome. The log calls it, and what stands for a log in tests.
func (w *Waiter) Deliver(o Outcome) {
	w.mu.Lock()
	first := len(w.outcomes) == 0
	w.outcomes = append(w.outcomes, o)
	w.mu.Unlock()
	if first {
		w.wake()
	}
}

// Outcomes returns the outcomes since the last call, in the order of their commits'
// ends. It keeps the memory of spare for the next ones.
func (w *Waiter) Outcomes(spare []Outcome) []Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.outcomes
	w.outcomes = spare[:0]
	return all
}

// AppendTo copies all of the records or none into the next commit and returns the number
// of that commit, which rises. Its outcome goes to w. After an error there is none;
// without records the number is 0. Like AppendSeq it ranges over recs twice.
//
// The commit need not begin before Commit is called: many appends have one signal.
func (l *Log) AppendTo(w *Waiter, recs iter.Seq[*Record]) (commit uint64, err error) {
	c, err := l.submit(recs, w)
	if c == nil {
		return 0, err
	}
	return c.number, err
}

// Commit has what AppendTo was given committed soon. It does not wait.
func (l *Log) Commit() { l.queue.signal() }
