package wal_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"collectord/shipper"
	"collectord/wal"
)

// before is called ahead of each call.
func (tr *trial) before(op, path string) error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if !tr.faultsStarted {
		return nil
	}
	tr.calls++
	tr.callsMade = append(tr.callsMade, fmt.Sprintf("%d %s %s", tr.calls, op, strings.TrimPrefix(path, tr.dir)))
	if tr.dead {
		return syscall.EIO
	}
	switch {
	case tr.fault.mode == "" || tr.calls < tr.fault.call:
		return nil
	case tr.calls == tr.fault.call:
		tr.failedOp, tr.dead = op, tr.fault.mode == "crash"
	case tr.fault.mode == "once" || op != tr.failedOp:
		return nil
	}
	tr.failed++
	return tr.fault.err
}

func (tr *trial) startFaults() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.faultsStarted = true
}

func (tr *trial) isDead() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.dead
}

// isStuck reports whether no progress is possible: the process is dead, or a call that
// always fails was made several times.
func (tr *trial) isStuck() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.dead || tr.fault.mode == "for ever" && tr.failed >= 3
}

func (tr *trial) open(dir string, logger *slog.Logger, before func(op, path string) error) bool {
	var err error
	tr.log, err = wal.Open(dir, wal.Options{
		Node: "edge-1", SegmentSize: 4 << 10, SealAfter: time.Hour, MachineID: "/nonexistent",
		ProbeMin: time.Millisecond, ProbeMax: time.Millisecond, Logger: logger,
	}.WithDisk(before).WithReads(tr.read))
	if err != nil && tr.fault.mode == "" {
		tr.t.Error(err)
	}
	if err != nil {
		return false
	}
	tr.until("the log is started", tr.log.Started)
	if !tr.log.Started() {
		_ = tr.log.Close()
		return false
	}
	return true
}

// ship runs a shipper until everything is shipped and deleted, or no progress is
// possible.
func (tr *trial) ship() {
	tr.t.Helper()
	s, err := shipper.New(tr.log, tr.store, shipper.Options{
		SpoolDir: filepath.Join(tr.dir, "spool"), Level: "fastest", Limits: shipper.Limits{RetryMin: time.Microsecond, RetryMax: time.Microsecond, RetryMaxPermanent: time.Microsecond},
	})
	if err != nil {
		tr.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if tr.scenario.prepare != nil || tr.scenario.records%2 == 1 {
		_ = tr.log.Seal(ctx)
	}
	tr.until("everything is shipped", func() bool {
		return tr.log.Ledger().Pending == tr.unreadRecords() && tr.log.Stats().LossNotes == 0 && s.Stats().InFlight == 0 && tr.leftovers() == 0
	})
}

// leftovers returns the number of directories of unfinished removals.
func (tr *trial) leftovers() int {
	names, err := os.ReadDir(filepath.Join(tr.dir, "data", "wal"))
	if err != nil {
		tr.t.Fatal(err)
	}
	return len(slices.DeleteFunc(names, func(e fs.DirEntry) bool {
		return !strings.Contains(e.Name(), ".") && e.Name() != "salvage" || tr.unreadRecords() > 0 && strings.HasSuffix(e.Name(), ".unread")
	}))
}

func (tr *trial) until(what string, is func() bool) {
	tr.t.Helper()
	for deadline := time.Now().Add(testLimit); !is() && !tr.isStuck(); <-time.After(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			tr.t.Fatalf("timed out after %v waiting until %s: %+v, %d leftovers", testLimit, what, tr.log.Ledger(), tr.leftovers())
		}
	}
}

// evict lowers the bounds until n segments must be evicted.
func (tr *trial) evict(n int) {
	tr.t.Helper()
	segments, _ := tr.log.Sealed()
	keep := tr.log.Stats().Bytes
	for _, s := range segments[:n] {
		keep -= s.Bytes()
	}
	tr.until("the oldest are evicted", func() bool {
		tr.log.SetLimits(wal.Limits{MaxBytes: keep * 4 / 3, WhenFull: wal.DropOldest, SealAfter: time.Hour, ProbeMin: time.Millisecond, ProbeMax: time.Millisecond}) // this checks the bounds at once
		return tr.log.Ledger().Evicted >= uint64(2*n)
	})
	tr.log.SetLimits(wal.Limits{SealAfter: time.Hour, ProbeMin: time.Millisecond, ProbeMax: time.Millisecond})
}

// file returns the path of the file of segment n, counted from 1.
func (tr *trial) file(n int) string {
	tr.t.Helper()
	files, err := filepath.Glob(filepath.Join(tr.dir, "data", "wal", fmt.Sprintf("%020d-*", 2*n-1), "*"))
	if err != nil || len(files) != 1 {
		tr.t.Fatal(files, err)
	}
	return files[0]
}

// damage damages the first record of a segment.
func (tr *trial) damage(n int) { flipBit(tr.t, tr.file(n), fmt.Sprintf(`"n":%d,`, 2*n-2)) }

// split splits the only segment.
func (tr *trial) split() {
	tr.t.Helper()
	segments, _ := tr.log.Sealed()
	tr.until("the segment is split", func() bool {
		err := segments[0].Split()
		if err != nil && tr.fault.mode == "" {
			tr.t.Error(err)
		}
		pieces, _ := tr.log.Sealed()
		return err == nil || len(pieces) > 1
	})
}

// truncateInHeader truncates the file of a segment within its header.
func (tr *trial) truncateInHeader(n int) {
	if err := os.Truncate(tr.file(n), 10); err != nil {
		tr.t.Fatal(err)
	}
}

// check asserts that every record is in the bucket or noted as lost.
func (tr *trial) check(complete bool) {
	tr.t.Helper()
	s := tr.scenario
	for seq := uint64(1); seq <= uint64(s.records); seq++ {
		reason, noted := tr.store.noted[seq]
		switch stored := tr.store.stored[seq]; {
		case stored && noted:
			tr.t.Errorf("record %d is in the bucket and in a note", seq)
		case complete && !stored && !noted:
			tr.t.Errorf("record %d is neither in the bucket nor in a note", seq)
		case noted && !slices.Contains(s.lost, seq) && !slices.Contains(s.mayLose, seq):
			tr.t.Errorf("record %d is noted as lost, but was not lost", seq)
		case noted && reason == wal.LossDamaged && tr.lasting: // the zeros behind the records could not be cut off
		case noted && reason != s.reason:
			tr.t.Errorf("record %d is noted as %s", seq, reason)
		case stored && slices.Contains(s.lost, seq):
			tr.t.Errorf("record %d is in the bucket, but was lost", seq)
		}
	}
	for seq := range tr.store.noted {
		if seq > uint64(s.records) {
			tr.t.Errorf("record %d is noted as lost, but never existed", seq)
		}
	}
}

func (tr *trial) checkLedger() wal.Ledger {
	tr.t.Helper()
	g := tr.log.Ledger()
	var appended uint64
	for _, d := range g.BySource {
		appended += d.Appended
	}
	if appended+g.Recovered != g.Pending+g.Shipped+g.Quarantined+g.Evicted {
		tr.t.Errorf("the ledger does not balance: %+v", g)
	}
	return g
}

// checkCounters compares the counters with the bucket. There was only one process so
// far.
func (tr *trial) checkCounters(appended bool) {
	tr.t.Helper()
	g := tr.checkLedger()
	count := map[string]uint64{}
	for _, reason := range tr.store.noted {
		count[reason]++
	}
	if g.Shipped != uint64(len(tr.store.stored)) || g.Evicted != count[wal.LossEvicted] || g.Quarantined != count[wal.LossDamaged]+count[wal.LossMissing] || g.Pending != tr.unreadRecords() {
		tr.t.Errorf("%d records in the bucket, notes %v, counted %+v", len(tr.store.stored), count, g)
	}
	if !appended && g.Recovered != uint64(tr.scenario.records) {
		tr.t.Errorf("recovered %d records, want %d", g.Recovered, tr.scenario.records)
	}
}

// trial is one run of a scenario.
type trial struct {
	t        *testing.T
	dir      string
	log      *wal.Log
	store    *watchedBucket
	fault    fault
	lasting  bool // the fault of the first start lasts until the second
	scenario scenario

	mu            sync.Mutex // guards the fields below
	inode         uint64     // inode of the file with unreadable pages, or 0
	faultsStarted bool
	calls         int
	failedOp      string // operation that always fails, with mode for ever
	failed        int
	dead          bool
	callsMade     []string
}
