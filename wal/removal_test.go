package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// TestEveryRecordIsStoredOrNotedWhateverCallFails ships, evicts, salvages and starts
// while one call that changes the log directory fails: once, or with all later calls of
// its kind, or with all later calls, as in a crash. After each of these faults, and after another
// start, each record is either in the bucket or in a loss note. No object claims that more is
// confirmed than the bucket has, and the counters agree with the bucket. One in thirteen calls
// fails, or each with TEST_ALL=1.
func TestEveryRecordIsStoredOrNotedWhateverCallFails(t *testing.T) {
	t.Parallel()
	for i, s := range []scenario{
		{name: "ship", records: 6, run: func(tr *trial) { tr.ship() }},
		{name: "evict", records: 8, run: func(tr *trial) { tr.evict(3); tr.ship() }, reason: wal.LossEvicted, mayLose: []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		{name: "salvage", records: 6, run: func(tr *trial) { tr.damage(2); tr.ship() }, reason: wal.LossDamaged, lost: []uint64{3}},
		{name: "split", records: 6, prepare: makeOneSegmentLog, skipStart: true, run: func(tr *trial) { tr.split(); tr.ship() }},
		{name: "salvage of a segment that lost all", records: 6, run: func(tr *trial) { tr.truncateInHeader(2); tr.ship() }, reason: wal.LossDamaged, lost: []uint64{3, 4}},
		{name: "start", records: 7, prepare: makeOpenLog, run: func(tr *trial) { tr.ship() }},
		{name: "start after the end of a segment was lost", records: 7, prepare: makeShortenedLog, run: func(tr *trial) { tr.ship() }, reason: wal.LossMissing, lost: []uint64{3, 4}},
		{name: "start after an interrupted eviction", records: 6, prepare: makeEvictingLog, run: func(tr *trial) { tr.ship() }, reason: wal.LossEvicted, lost: []uint64{1, 2}},
		{name: "start after an interrupted salvage", records: 6, prepare: makeSalvagingLog, run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{4}},
		{name: "salvage of a segment that lost its end", records: 6, prepare: makeDamagedLog, skipStart: true, run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{2, 6}},
		{name: "a page can't be read", records: 6, unreadSegment: sealedName(3, 4), run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{4}},
		{name: "two pages can't be read, with a record between them", records: 6, prepare: makeOneSegmentLog, skipStart: true, unreadSegment: sealedName(1, 6), unreadPages: []int64{0, 2}, run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{1, 2, 4, 5, 6}},
		{name: "a page can't be read after a restart either", records: 6, prepare: makeUnreadLog, skipStart: true, unreadSegment: sealedName(4, 4) + ".unread", run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{4}},
		{name: "a page can be read again after a restart", records: 6, prepare: makeUnreadLog, skipStart: true, run: func(tr *trial) { tr.ship() }},
		{name: "start after a loss was decided and not noted", records: 6, prepare: makeGivenUpLog, run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{4}},
	} {
		t.Run(s.name, func(t *testing.T) {
			if prepare := s.prepare; prepare != nil {
				prepared := scratchDir(t)
				prepare(t, prepared)
				s.prepare = func(t *testing.T, dir string) { copyLog(t, prepared, dir) }
			}
			first, calls := s.runWith(t, fault{}) // without a fault, to count the calls
			if calls < 4 {
				t.Fatalf("%d calls", calls)
			}
			if !s.skipStart {
				first = 1
			}
			step := testrun.OneIn(13) // odd, so that each mode and error is used
			for call := first + i%step; call <= calls; call += step {
				for _, mode := range []string{"once", "crash", "for ever"}[:2+call%2] {
					f := fault{mode: mode, call: call, err: []error{syscall.EIO, syscall.ENOSPC, syscall.EACCES}[call%3]}
					t.Run(fmt.Sprintf("%s at %d", mode, call), func(t *testing.T) {
						t.Parallel()
						s.runWith(t, f)
					})
				}
			}
		})
	}
}

// scenario is a sequence of events for a log.
type scenario struct {
	name          string
	records       int                            // number of records appended before, two per segment
	prepare       func(t *testing.T, dir string) // makes the directory instead of appends
	skipStart     bool                           // the calls of the start do not fail, since other scenarios test them
	run           func(tr *trial)                // runs the events to the end
	unreadSegment string                         // segment that the disk can't read completely
	unreadPages   []int64                        // pages that can't be read; if empty, the second page
	reason        string                         // expected reason of the losses
	lost          []uint64                       // seqs that must be lost
	mayLose       []uint64                       // seqs that may be lost
}

// fault makes one call fail. Calls are numbered from the beginning of the scenario.
type fault struct {
	mode string // once, crash or for ever; empty for no fault
	call int
	err  error
}

// scratchDir returns a new directory, in memory if possible, where a sync takes no
// time.
func scratchDir(t *testing.T) string {
	t.Helper()
	testrun.WaitPastHourEnd()
	dir, err := os.MkdirTemp("/dev/shm", "collectord-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s scenario) runWith(t *testing.T, f fault) (first, calls int) {
	t.Helper()
	tr := &trial{t: t, dir: scratchDir(t), fault: f, lasting: f.mode == "for ever", scenario: s}
	archive, err := bucket.Open(bucket.Destination{URL: "file://" + filepath.Join(scratchDir(t), "archive")})
	if err != nil {
		t.Fatal(err)
	}
	tr.store = &watchedBucket{Store: archive, trial: tr, stored: map[uint64]bool{}, keys: map[uint64]string{}, noted: map[uint64]string{}}
	data := filepath.Join(tr.dir, "data")
	if s.prepare != nil {
		s.prepare(t, data)
		tr.spoilPages(data)
		tr.startFaults()
	}
	var lines bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&lines, nil))
	defer func() {
		if t.Failed() {
			t.Logf("%+v\n%s\n%s", f, strings.Join(tr.callsMade, "\n"), lines.String())
		}
	}()
	started := tr.open(data, logger, tr.before)
	tr.mu.Lock()
	first = tr.calls + 1
	tr.mu.Unlock()
	if started {
		if s.prepare == nil {
			appendPairs(t, tr.log, s.records)
			tr.spoilPages(data)
			tr.startFaults()
		}
		s.run(tr)
		if f.mode == "once" || f.mode == "" {
			tr.check(tr.unreadRecords() == 0)
			tr.checkCounters(s.prepare == nil)
		}
		_ = tr.log.Close() // its last calls may fail, too
		if f.mode == "" && !strings.HasSuffix(s.unreadSegment, ".unread") && (tr.unreadRecords() > 0) != (s.unreadSegment != "") {
			t.Fatalf("%d records are unread", tr.unreadRecords())
		}
	} else if f.mode == "" {
		t.Fatal("the log did not start")
	}
	tr.mu.Lock()
	calls, tr.fault, tr.dead, tr.faultsStarted = tr.calls, fault{}, false, false
	tr.mu.Unlock()
	for starts := 0; starts == 0 || starts == 1 && tr.unreadRecords() > 0; starts++ { // the next start reads unread records again
		if starts > 0 {
			_ = tr.log.Close()
		}
		if !tr.open(data, logger, nil) {
			t.Fatal("the log did not start again")
		}
		tr.ship()
	}
	tr.check(true)
	tr.checkLedger()
	if err := tr.log.Close(); err != nil {
		t.Error(err)
	}
	return first, calls
}

// appendPairs appends records, and seals after every second record.
func appendPairs(t *testing.T, l *wal.Log, n int) {
	t.Helper()
	for i := range n {
		appendOne(t, l, i)
		if i%2 == 1 {
			if err := l.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func appendOne(t *testing.T, l *wal.Log, i int) {
	t.Helper()
	usage := fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, i, bytes.Repeat([]byte("x"), 2000))
	if err := l.Append(context.Background(), wal.Record{Usage: usage}); err != nil {
		t.Fatal(err)
	}
}

func flipBit(t *testing.T, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte(text))
	if i < 0 {
		t.Fatalf("no %s in %s", text, path)
	}
	b[i] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
