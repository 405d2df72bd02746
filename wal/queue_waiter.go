package wal

import (
	"iter"
	"sync"
)

// Waiter receives the outcomes of appends that do not block. It gets one outcome per
// commit, so that an event loop with thousands of clients is woken once for all of
// them. Its methods may be called concurrently.
type Waiter struct {
	wake func()

	mu       sync.Mutex
	outcomes []Outcome
}

// Outcome is the result of a commit.
type Outcome struct {
	Commit uint64 // the number that AppendTo returned
	Err    error  // nil if all its records are stored; otherwise it wraps ErrCommitFailed
}

// NewWaiter returns a Waiter. It calls wake, from a goroutine of the log, when an
// outcome is added while there are no others. wake must not block.
func NewWaiter(wake func()) *Waiter { return &Waiter{wake: wake} }

// Deliver adds an outcome. The log calls it, as does a replacement of the log in tests.
func (w *Waiter) Deliver(o Outcome) {
	w.mu.Lock()
	first := len(w.outcomes) == 0
	w.outcomes = append(w.outcomes, o)
	w.mu.Unlock()
	if first {
		w.wake()
	}
}

// Outcomes returns the outcomes since the last call, in the order in which their
// commits ended. It keeps the memory of spare for the next outcomes.
func (w *Waiter) Outcomes(spare []Outcome) []Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.outcomes
	w.outcomes = spare[:0]
	return all
}

// HasOutcomes reports whether Outcomes would return any.
func (w *Waiter) HasOutcomes() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.outcomes) > 0
}

// AppendTo copies all of the records or none into the next commit, and returns the
// number of that commit. The numbers rise. w receives the outcome, except after an
// error. Without records the number is 0 and there is no outcome. Like AppendSeq,
// AppendTo ranges over recs twice.
//
// The commit may begin only when Commit or RequestCommit is called, so that many appends
// cause one commit.
func (l *Log) AppendTo(w *Waiter, recs iter.Seq[*Record]) (commit uint64, err error) {
	_, commit, err = l.submit(recs, w)
	return commit, err
}

// Commit makes the log commit now what AppendTo has added. It writes and syncs it on the
// calling goroutine, unless another commit is being written: then it returns at once,
// like RequestCommit. While the disk does not answer, it does not return. Waiters are
// woken in any case. The records of an append must not call Commit while they are copied.
func (l *Log) Commit() { l.committer.commitHere() }

// RequestCommit makes the log commit soon what AppendTo has added. It does not wait.
func (l *Log) RequestCommit() { l.queue.signal() }
