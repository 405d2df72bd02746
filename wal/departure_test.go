package wal_test

import (
	"bytes"
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

// scenario is something that a log goes through.
type scenario struct {
	name    string
	records int                            // appended before, two in a segment
	prepare func(t *testing.T, dir string) // makes the directory instead
	late    bool                           // the calls of the start are like those of others
	run     func(tr *trial)                // until all is done
	rotten  string                         // segment of which the disk does not give all
	pages   []int64                        // that it does not give; if empty, the second
	reason  string                         // of the losses
	lost    []uint64                       // seqs that can't but be lost
	mayLose []uint64                       // seqs that may be
}

// fault is a call that fails: the at-th, counted from when the scenario runs.
type fault struct {
	how string // empty for none
	at  int
	err error
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

	mu    sync.Mutex // guards what follows
	inode uint64     // of the file of which a page can't be read, or 0
	armed bool
	calls int
	kind  string // of the calls that fail for ever
	hits  int
	dead  bool
	trace []string
}

// before is asked ahead of each call.
func (tr *trial) before(op, path string) error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if !tr.armed {
		return nil
	}
	tr.calls++
	tr.trace = append(tr.trace, fmt.Sprintf("%d %s %s", tr.calls, op, strings.TrimPrefix(path, tr.dir)))
	if tr.dead {
		return syscall.EIO
	}
	switch {
	case tr.fault.how == "" || tr.calls < tr.fault.at:
		return nil
	case tr.calls == tr.fault.at:
		tr.kind, tr.dead = op, tr.fault.how == "crash"
	case tr.fault.how == "once" || op != tr.kind:
		return nil
	}
	tr.hits++
	return tr.fault.err
}

func (tr *trial) arm() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.armed = true
}

func (tr *trial) isDead() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.dead
}

// stuck reports that there is no more to wait for: the process is dead, or met a
// call that fails for ever several times.
func (tr *trial) stuck() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.dead || tr.fault.how == "for ever" && tr.hits >= 3
}

// scratchDir is in memory where that is possible: a sync takes no time there.
func scratchDir(t *testing.T) string {
	t.Helper()
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

func (tr *trial) open(dir string, logger *slog.Logger, before func(op, path string) error) bool {
	var err error
	tr.log, err = wal.Open(dir, wal.Options{
		Node: "edge-1", SegmentSize: 4 << 10, SealAfter: time.Hour, MachineID: "/nonexistent",
		ProbeMin: time.Millisecond, ProbeMax: time.Millisecond, Logger: logger,
	}.WithDisk(before).WithReads(tr.read))
	if err != nil && tr.fault.how == "" {
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

// ship runs a shipper until everything is shipped and cleared away, or nothing
// more is to be expected.
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
		return tr.log.Ledger().Pending == tr.unread() && tr.log.Stats().LossNotes == 0 && s.Stats().InFlight == 0 && tr.leftovers() == 0
	})
}

// leftovers counts what a removal leaves until it is done.
func (tr *trial) leftovers() int {
	names, err := os.ReadDir(filepath.Join(tr.dir, "data", "wal"))
	if err != nil {
		tr.t.Fatal(err)
	}
	return len(slices.DeleteFunc(names, func(e fs.DirEntry) bool {
		return !strings.Contains(e.Name(), ".") && e.Name() != "salvage" || tr.unread() > 0 && strings.HasSuffix(e.Name(), ".unread")
	}))
}

func (tr *trial) until(what string, is func() bool) {
	tr.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is() && !tr.stuck(); <-time.After(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			tr.t.Fatalf("still not so after 20 s: %s: %+v, %d leftovers", what, tr.log.Ledger(), tr.leftovers())
		}
	}
}

// evict lowers the bounds until n segments have to go.
func (tr *trial) evict(n int) {
	tr.t.Helper()
	segments, _ := tr.log.Sealed()
	keep := tr.log.Stats().Bytes
	for _, s := range segments[:n] {
		keep -= s.Bytes()
	}
	tr.until("the oldest are evicted", func() bool {
		tr.log.SetLimits(wal.Limits{MaxBytes: keep * 4 / 3, WhenFull: wal.DropOldest, SealAfter: time.Hour, ProbeMin: time.Millisecond, ProbeMax: time.Millisecond}) // looks at once
		return tr.log.Ledger().Evicted >= uint64(2*n)
	})
	tr.log.SetLimits(wal.Limits{SealAfter: time.Hour, ProbeMin: time.Millisecond, ProbeMax: time.Millisecond})
}

// file is that of the n-th segment, from 1.
func (tr *trial) file(n int) string {
	tr.t.Helper()
	files, err := filepath.Glob(filepath.Join(tr.dir, "data", "wal", fmt.Sprintf("%020d-*", 2*n-1), "*"))
	if err != nil || len(files) != 1 {
		tr.t.Fatal(files, err)
	}
	return files[0]
}

// damage spoils the first record of a segment.
func (tr *trial) damage(n int) { spoil(tr.t, tr.file(n), fmt.Sprintf(`"n":%d,`, 2*n-2)) }

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

// split splits the only segment.
func (tr *trial) split() {
	tr.t.Helper()
	segments, _ := tr.log.Sealed()
	tr.until("the segment is split", func() bool {
		err := segments[0].Split()
		if err != nil && tr.fault.how == "" {
			tr.t.Error(err)
		}
		pieces, _ := tr.log.Sealed()
		return err == nil || len(pieces) > 1
	})
}

// empty takes all frames of a segment.
func (tr *trial) empty(n int) {
	if err := os.Truncate(tr.file(n), 10); err != nil {
		tr.t.Fatal(err)
	}
}

// check reads the bucket: with what is known to be lost it is all that was ever
// appended.
func (tr *trial) check(whole bool) {
	tr.t.Helper()
	s := tr.scenario
	for seq := uint64(1); seq <= uint64(s.records); seq++ {
		reason, noted := tr.store.noted[seq]
		switch stored := tr.store.stored[seq]; {
		case stored && noted:
			tr.t.Errorf("record %d is in the bucket and in a note", seq)
		case whole && !stored && !noted:
			tr.t.Errorf("record %d is neither in the bucket nor in a note", seq)
		case noted && !slices.Contains(s.lost, seq) && !slices.Contains(s.mayLose, seq):
			tr.t.Errorf("record %d is noted as lost, and was not", seq)
		case noted && reason == wal.LossDamaged && tr.lasting: // the zeros behind could not be cut off
		case noted && reason != s.reason:
			tr.t.Errorf("record %d is noted as %s", seq, reason)
		case stored && slices.Contains(s.lost, seq):
			tr.t.Errorf("record %d is in the bucket, and was lost", seq)
		}
	}
	for seq := range tr.store.noted {
		if seq > uint64(s.records) {
			tr.t.Errorf("record %d is noted as lost, and there was none", seq)
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

// checkCounters holds the counters of the only process so far against the bucket.
func (tr *trial) checkCounters(appended bool) {
	tr.t.Helper()
	g := tr.checkLedger()
	count := map[string]uint64{}
	for _, reason := range tr.store.noted {
		count[reason]++
	}
	if g.Shipped != uint64(len(tr.store.stored)) || g.Evicted != count[wal.LossEvicted] || g.Quarantined != count[wal.LossDamaged]+count[wal.LossMissing] || g.Pending != tr.unread() {
		tr.t.Errorf("%d records in the bucket, notes %v, counted %+v", len(tr.store.stored), count, g)
	}
	if !appended && g.Recovered != uint64(tr.scenario.records) {
		tr.t.Errorf("%d recovered, %d were there", g.Recovered, tr.scenario.records)
	}
}
