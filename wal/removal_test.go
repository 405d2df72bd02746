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

// TestEveryRecordIsStoredOrNotedWhateverCallFails ships, evicts, salvages and
// starts while one call that changes the log directory fails: once, or with every
// later one of its kind, or with every later call at all, as in a crash. After
// each, and after another start, a record is either in the bucket or in a loss
// note, never in both or neither, no object claims more to be confirmed than is
// there, and the counters agree with the bucket.
func TestEveryRecordIsStoredOrNotedWhateverCallFails(t *testing.T) {
	t.Parallel()
	for _, s := range []scenario{
		{name: "ship", records: 6, run: func(tr *trial) { tr.ship() }},
		{name: "evict", records: 8, run: func(tr *trial) { tr.evict(3); tr.ship() }, reason: wal.LossEvicted, mayLose: []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		{name: "salvage", records: 6, run: func(tr *trial) { tr.damage(2); tr.ship() }, reason: wal.LossDamaged, lost: []uint64{3}},
		{name: "split", records: 6, prepare: single, late: true, run: func(tr *trial) { tr.split(); tr.ship() }},
		{name: "salvage of a segment that lost all", records: 6, run: func(tr *trial) { tr.empty(2); tr.ship() }, reason: wal.LossDamaged, lost: []uint64{3, 4}},
		{name: "start", records: 7, prepare: unsealed, run: func(tr *trial) { tr.ship() }},
		{name: "start after the end of a segment was lost", records: 7, prepare: shortened, run: func(tr *trial) { tr.ship() }, reason: wal.LossMissing, lost: []uint64{3, 4}},
		{name: "start after an interrupted eviction", records: 6, prepare: evicting, run: func(tr *trial) { tr.ship() }, reason: wal.LossEvicted, lost: []uint64{1, 2}},
		{name: "start after an interrupted salvage", records: 6, prepare: salvaging, run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{4}},
		{name: "salvage of a segment that lost its end", records: 6, prepare: ragged, late: true, run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{2, 6}},
		{name: "a page can't be read", records: 6, rotten: name(3, 4), run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{4}},
		{name: "two pages can't be read, with a record between them", records: 6, prepare: single, late: true, rotten: name(1, 6), pages: []int64{0, 2}, run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{1, 2, 4, 5, 6}},
		{name: "a page can't be read after a restart either", records: 6, prepare: unread, late: true, rotten: name(4, 4) + ".unread", run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{4}},
		{name: "a page can be read again after a restart", records: 6, prepare: unread, late: true, run: func(tr *trial) { tr.ship() }},
		{name: "start after a loss was decided and not noted", records: 6, prepare: givenUp, run: func(tr *trial) { tr.ship() }, reason: wal.LossDamaged, lost: []uint64{4}},
	} {
		t.Run(s.name, func(t *testing.T) {
			if prepare := s.prepare; prepare != nil {
				prepared := scratchDir(t)
				prepare(t, prepared)
				s.prepare = func(t *testing.T, dir string) { copyLog(t, prepared, dir) }
			}
			first, calls := s.try(t, fault{}) // without one, to count the calls
			if calls < 4 {
				t.Fatalf("%d calls", calls)
			}
			if !s.late {
				first = 1
			}
			for at := first; at <= calls; at++ {
				for _, how := range []string{"once", "crash", "for ever"}[:2+at%2] {
					f := fault{how: how, at: at, err: []error{syscall.EIO, syscall.ENOSPC, syscall.EACCES}[at%3]}
					t.Run(fmt.Sprintf("%s at %d", how, at), func(t *testing.T) {
						t.Parallel()
						s.try(t, f)
					})
				}
			}
		})
	}
}

// scenario is a sequence of events in the life of a log.
type scenario struct {
	name    string
	records int                            // appended before, two in a segment
	prepare func(t *testing.T, dir string) // makes the directory instead
	late    bool                           // the calls of the start are like those of others
	run     func(tr *trial)                // until all is done
	rotten  string                         // segment of which the disk can't read all
	pages   []int64                        // that it does not give; if empty, the second
	reason  string                         // of the losses
	lost    []uint64                       // seqs that can't but be lost
	mayLose []uint64                       // seqs that may be
}

// fault makes a call fail: the at-th, counted from the beginning of the scenario.
type fault struct {
	how string // empty for none
	at  int
	err error
}

// scratchDir is in memory where that is possible: a sync takes no time there.
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

func (s scenario) try(t *testing.T, f fault) (first, calls int) {
	t.Helper()
	tr := &trial{t: t, dir: scratchDir(t), fault: f, lasting: f.how == "for ever", scenario: s}
	archive, err := bucket.Open(bucket.Destination{URL: "file://" + filepath.Join(scratchDir(t), "archive")})
	if err != nil {
		t.Fatal(err)
	}
	tr.store = &watchedBucket{Store: archive, trial: tr, stored: map[uint64]bool{}, keys: map[uint64]string{}, noted: map[uint64]string{}}
	data := filepath.Join(tr.dir, "data")
	if s.prepare != nil {
		s.prepare(t, data)
		tr.rot(data)
		tr.arm()
	}
	var lines bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&lines, nil))
	defer func() {
		if t.Failed() {
			t.Logf("%+v\n%s\n%s", f, strings.Join(tr.trace, "\n"), lines.String())
		}
	}()
	started := tr.open(data, logger, tr.before)
	tr.mu.Lock()
	first = tr.calls + 1
	tr.mu.Unlock()
	if started {
		if s.prepare == nil {
			appendPairs(t, tr.log, s.records)
			tr.rot(data)
			tr.arm()
		}
		s.run(tr)
		if f.how == "once" || f.how == "" {
			tr.check(tr.unread() == 0)
			tr.checkCounters(s.prepare == nil)
		}
		_ = tr.log.Close() // whose last calls may fail, too
		if f.how == "" && !strings.HasSuffix(s.rotten, ".unread") && (tr.unread() > 0) != (s.rotten != "") {
			t.Fatalf("%d records are unread", tr.unread())
		}
	} else if f.how == "" {
		t.Fatal("it does not start")
	}
	tr.mu.Lock()
	calls, tr.fault, tr.dead, tr.armed = tr.calls, fault{}, false, false
	tr.mu.Unlock()
	for starts := 0; starts == 0 || starts == 1 && tr.unread() > 0; starts++ { // which the next start reads again
		if starts > 0 {
			_ = tr.log.Close()
		}
		if !tr.open(data, logger, nil) {
			t.Fatal("it does not start again")
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

// appendPairs appends records, and seals after every second.
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

func spoil(t *testing.T, path, at string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte(at))
	if i < 0 {
		t.Fatalf("no %s in %s", at, path)
	}
	b[i] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
