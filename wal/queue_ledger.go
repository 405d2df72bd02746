package wal

import (
	"maps"

	"collectord/wal/segment"
)

// Reasons for which the log itself rejects or drops records. Callers of Reject use
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
// The first two lines hold for each source. Rejected and Dropped are the sums over
// their reasons.
type Ledger struct {
	BySource [segment.Sources]SourceLedger // indexed by Source

	Recovered   uint64 // found by the start, readable or not; or lost by the storage (Segment.Relist)
	Pending     uint64 // in the log, neither confirmed by the storage nor lost
	Shipped     uint64 // confirmed by the storage
	Quarantined uint64 // damaged, missing or given up
	Evicted     uint64 // deleted to make room
}

// SourceLedger is the part of the ledger for one source.
type SourceLedger struct {
	Received uint64
	Accepted uint64
	Rejected map[string]uint64 // by reason
	Appended uint64            // acknowledged as stored
	Repeated uint64            // stored by an earlier request (Log.Repeat)
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

// ledgerField is a field of the ledger that counts records which are or were in the log.
type ledgerField int

const (
	pending ledgerField = iota
	shipped
	quarantined
	evicted
)

func (g *Ledger) field(p ledgerField) *uint64 {
	return [...]*uint64{&g.Pending, &g.Shipped, &g.Quarantined, &g.Evicted}[p]
}

// moveRecords moves n records from one place of the ledger to another.
func (q *queue) moveRecords(n uint64, from, to ledgerField) {
	q.mu.Lock()
	defer q.mu.Unlock()
	*q.ledger.field(from) -= n
	*q.ledger.field(to) += n
}

// countRecovered adds n records that the start has found to a place of the ledger.
func (q *queue) countRecovered(n uint64, at ledgerField) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ledger.Recovered += n
	*q.ledger.field(at) += n
}

// reset discards the counts of a failed start.
func (q *queue) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ledger = Ledger{BySource: q.ledger.BySource}
}

// Repeat counts n records of source s that were stored before and so are not appended
// (a repeated Idempotency-Key).
func (l *Log) Repeat(s Source, n int) {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	ledger := &l.queue.ledger.BySource[s]
	ledger.Received += uint64(n)
	ledger.Accepted += uint64(n)
	ledger.Repeated += uint64(n)
}

// Ledger returns a consistent copy of the ledger.
func (l *Log) Ledger() Ledger {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.ledger.clone()
}

// Reject counts n records of source s that were refused for reason before they reached
// the log. Input that can't be split into records counts as one. With n = 0, Reject
// lists the reason and leaves its count unchanged. It ignores a negative n.
func (l *Log) Reject(s Source, reason string, n int) {
	if n < 0 {
		return
	}
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	l.queue.ledger.BySource[s].reject(reason, n)
}
