package wal

import (
	"maps"

	"collectord/wal/segment"
)

// Reasons for which the log itself rejects or drops records. Callers of Reject have
// reasons of their own.
const (
	ReasonLogFull      = "log_full"
	ReasonOverloaded   = "overloaded"
	ReasonShuttingDown = "shutting_down"
	ReasonCommitFailed = "commit_failed"
	ReasonUnstorable   = "unstorable" // exceeds a limit of Record.Check, MaxUsage or MaxClient
)

// Ledger counts every record. It balances at every moment:
//
//	Received = Accepted + Rejected
//	Accepted = Appended + Repeated + Dropped + Waiting
//	Appended + Recovered = Pending + Shipped + Quarantined + Evicted
//
// The first two lines hold for each source, where Rejected and Dropped are the sums
// over their reasons.
type Ledger struct {
	BySource [segment.Sources]SourceLedger // indexed by Source

	Recovered   uint64 // found at start, readable or not; or lost by the storage: see Segment.Relist
	Pending     uint64 // in the log, neither confirmed by the storage nor lost
	Shipped     uint64
	Quarantined uint64
	Evicted     uint64
}

// SourceLedger is the part of the ledger that is kept by source.
type SourceLedger struct {
	Received uint64
	Accepted uint64
	Rejected map[string]uint64 // by reason
	Appended uint64
	Repeated uint64
	Dropped  map[string]uint64 // by reason
	Waiting  uint64            // queued, or being committed
}

func newLedger() (g Ledger) {
	for i := range g.BySource {
		g.BySource[i].Rejected = map[string]uint64{ReasonLogFull: 0, ReasonShuttingDown: 0, ReasonUnstorable: 0}
		g.BySource[i].Dropped = map[string]uint64{ReasonCommitFailed: 0}
	}
	g.BySource[UDP].Rejected[ReasonOverloaded] = 0
	return g
}

func (g *Ledger) clone() Ledger {
	c := *g
	for i := range c.BySource {
		c.BySource[i].Rejected = maps.Clone(g.BySource[i].Rejected)
		c.BySource[i].Dropped = maps.Clone(g.BySource[i].Dropped)
	}
	return c
}

func (d *SourceLedger) accept(n int) {
	d.Received += uint64(n)
	d.Accepted += uint64(n)
	d.Waiting += uint64(n)
}

func (d *SourceLedger) reject(reason string, n int) {
	d.Received += uint64(n)
	d.Rejected[reason] += uint64(n)
}

// place is where the ledger counts a record that is or was in the log.
type place int

const (
	pending place = iota
	shipped
	quarantined
	evicted
)

func (g *Ledger) at(p place) *uint64 {
	return [...]*uint64{&g.Pending, &g.Shipped, &g.Quarantined, &g.Evicted}[p]
}

// move moves n records from one place of the ledger to another.
func (q *queue) move(n uint64, from, to place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	*q.ledger.at(from) -= n
	*q.ledger.at(to) += n
}

// recovered counts n records that were found, at a place.
func (q *queue) recovered(n uint64, at place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ledger.Recovered += n
	*q.ledger.at(at) += n
}

// reset undoes what a failed start has counted.
func (q *queue) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ledger = Ledger{BySource: q.ledger.BySource}
}

// Repeat counts n records of source s that were stored before (a repeated
// Idempotency-Key), so that nothing was appended.
func (l *Log) Repeat(s Source, n int) {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	books := &l.queue.ledger.BySource[s]
	books.Received += uint64(n)
	books.Accepted += uint64(n)
	books.Repeated += uint64(n)
}

// Ledger returns a copy of the ledger, taken at one moment.
func (l *Log) Ledger() Ledger {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.ledger.clone()
}

// Reject counts n records of source s that were refused for reason before they reached
// the log. What can't be split into records counts as one. With n = 0 the reason is
// listed with its count unchanged; a negative n is ignored.
func (l *Log) Reject(s Source, reason string, n int) {
	if n < 0 {
		return
	}
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	l.queue.ledger.BySource[s].reject(reason, n)
}
