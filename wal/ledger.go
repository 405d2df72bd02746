package wal

import (
	"maps"

	"collectord/wal/segment"
)

// Reasons for which the log itself rejects or drops records. Callers of Reject
// bring their own.
const (
	ReasonLogFull      = "log_full"
	ReasonOverloaded   = "overloaded"
	ReasonShuttingDown = "shutting_down"
	ReasonCommitFailed = "commit_failed"
)

// Ledger accounts for every record. It balances at every moment:
//
//	Received = Accepted + Rejected
//	Accepted = Appended + Repeated + Dropped + Waiting
//	Appended + Recovered = Pending + Shipped + Quarantined + Evicted
//
// with the first two lines holding for each source, and Rejected and Dropped
// standing for the sum of their reasons.
type Ledger struct {
	Door [segment.Sources]DoorLedger // indexed by Source

	Recovered   uint64 // found at start, readable or not
	Pending     uint64 // in the log, not yet confirmed by the storage
	Shipped     uint64
	Quarantined uint64
	Evicted     uint64
}

// DoorLedger is the part of the ledger that is kept for each source.
type DoorLedger struct {
	Received uint64
	Accepted uint64
	Rejected map[string]uint64 // by reason
	Appended uint64
	Repeated uint64
	Dropped  map[string]uint64 // by reason
	Waiting  uint64            // queued, or being committed
}

func newLedger() (g Ledger) {
	for i := range g.Door {
		g.Door[i].Rejected = map[string]uint64{ReasonLogFull: 0, ReasonShuttingDown: 0}
		g.Door[i].Dropped = map[string]uint64{ReasonCommitFailed: 0}
	}
	g.Door[UDP].Rejected[ReasonOverloaded] = 0
	return g
}

func (g *Ledger) clone() Ledger {
	c := *g
	for i := range c.Door {
		c.Door[i].Rejected = maps.Clone(g.Door[i].Rejected)
		c.Door[i].Dropped = maps.Clone(g.Door[i].Dropped)
	}
	return c
}

func (d *DoorLedger) accept(n int) {
	d.Received += uint64(n)
	d.Accepted += uint64(n)
	d.Waiting += uint64(n)
}

func (d *DoorLedger) reject(reason string, n int) {
	d.Received += uint64(n)
	d.Rejected[reason] += uint64(n)
}

// Repeat counts n records that came in by s and were stored before, so that
// nothing is left to do.
func (l *Log) Repeat(s Source, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	door := &l.ledger.Door[s]
	door.Received += uint64(n)
	door.Accepted += uint64(n)
	door.Repeated += uint64(n)
}

// Ledger returns a copy of the ledger, taken at one moment.
func (l *Log) Ledger() Ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.clone()
}

// Reject counts n records that came in by s and were refused for reason before
// the log saw them. What can't be split into records counts as one. With n = 0
// the reason is in the ledger from then on, so that it is known of before it
// first occurs.
func (l *Log) Reject(s Source, reason string, n int) {
	if n < 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ledger.Door[s].reject(reason, n)
}
