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
// that the daemon is starting. Usages that arrive before the log is open wait, so that a
// restart refuses none.
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
func (p *pendingLog) open(log *wal.Log) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r, n := range p.rejected {
		log.Reject(r.source, r.reason, n)
	}
	p.log.Store(log)
	close(p.opened)
}

func (p *pendingLog) wait() *wal.Log {
	if log := p.log.Load(); log != nil {
		return log
	}
	<-p.opened
	return p.log.Load()
}

func (p *pendingLog) AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error {
	return p.wait().AppendSeq(ctx, recs)
}

func (p *pendingLog) AppendTo(w *wal.Waiter, recs iter.Seq[*wal.Record]) (commit uint64, err error) {
	if log := p.log.Load(); log != nil {
		return log.AppendTo(w, recs)
	}
	return 0, httpserver.ErrStarting
}

func (p *pendingLog) Commit() { p.wait().Commit() }

func (p *pendingLog) RequestCommit() { p.wait().RequestCommit() }

func (p *pendingLog) Enqueue(recs ...wal.Record) int { return p.wait().Enqueue(recs...) }

func (p *pendingLog) YieldToIngest() { p.wait().YieldToIngest() }

func (p *pendingLog) Repeat(s wal.Source, n int) { p.wait().Repeat(s, n) }

// Reject counts rejected usages. It never waits for the log, because they only change
// the ledger.
func (p *pendingLog) Reject(s wal.Source, reason string, n int) {
	if log := p.log.Load(); log != nil {
		log.Reject(s, reason, n)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if log := p.log.Load(); log != nil {
		log.Reject(s, reason, n)
		return
	}
	p.rejected[rejection{s, reason}] += n
}

func (p *pendingLog) Full() error {
	if log := p.log.Load(); log != nil {
		return log.Full()
	}
	return httpserver.ErrStarting
}
