package main

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	"collectord/collectord/httpserver"
	"collectord/wal"
)

// pendingLog stands in for the log until it is open, so that the HTTP server can report
// that the daemon is starting. Usages received before that wait, so that a restart
// refuses none.
type pendingLog struct {
	log    atomic.Pointer[wal.Log]
	opened chan struct{}

	mu       sync.Mutex        // guards the fields below
	rejected map[rejection]int // added to the ledger when the log opens
}

type rejection struct {
	source wal.Source
	reason string
}

func newPendingLog() *pendingLog {
	return &pendingLog{opened: make(chan struct{}), rejected: map[rejection]int{}}
}

// open sets the log and releases all waiting calls. It must be called once.
func (g *pendingLog) open(log *wal.Log) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for r, n := range g.rejected {
		log.Reject(r.source, r.reason, n)
	}
	g.log.Store(log)
	close(g.opened)
}

func (g *pendingLog) wait() *wal.Log {
	if log := g.log.Load(); log != nil {
		return log
	}
	<-g.opened
	return g.log.Load()
}

func (g *pendingLog) AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error {
	return g.wait().AppendSeq(ctx, recs)
}

func (g *pendingLog) AppendTo(w *wal.Waiter, recs iter.Seq[*wal.Record]) (commit uint64, err error) {
	if log := g.log.Load(); log != nil {
		return log.AppendTo(w, recs)
	}
	return 0, httpserver.ErrStarting
}

func (g *pendingLog) Commit() { g.wait().Commit() }

func (g *pendingLog) Enqueue(recs ...wal.Record) int { return g.wait().Enqueue(recs...) }

func (g *pendingLog) YieldToIngest() { g.wait().YieldToIngest() }

func (g *pendingLog) Repeat(s wal.Source, n int) { g.wait().Repeat(s, n) }

// Reject counts rejected usages. It never waits for the log, because they only change
// the ledger.
func (g *pendingLog) Reject(s wal.Source, reason string, n int) {
	if log := g.log.Load(); log != nil {
		log.Reject(s, reason, n)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if log := g.log.Load(); log != nil {
		log.Reject(s, reason, n)
		return
	}
	g.rejected[rejection{s, reason}] += n
}

func (g *pendingLog) Full() error {
	if log := g.log.Load(); log != nil {
		return log.Full()
	}
	return httpserver.ErrStarting
}
