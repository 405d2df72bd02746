package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// usage makes a usage that tells which one it is.
func usage(i int) []byte { return fmt.Appendf(nil, `{"patientId":"%d"}`, i) }

func open(t *testing.T, dir string, o Options) *Log {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 32 << 10 // what is written ahead takes time
	}
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return l
}

func mustAppend(t *testing.T, l *Log, recs ...Record) {
	t.Helper()
	if err := l.Append(context.Background(), recs...); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustSeal(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// readAll returns copies of all sealed records, and checks that their seqs have
// no hole and their ids rise within each run.
func readAll(t *testing.T, l *Log) (all []Record) {
	t.Helper()
	segments, _ := l.Sealed()
	var lastID ID
	var lastRun uint64
	for _, s := range segments {
		h, err := s.Header()
		if err != nil {
			t.Fatal(err)
		}
		if h.Run != lastRun {
			lastRun, lastID = h.Run, ID{}
		}
		n := 0
		for r, err := range s.Records() {
			if err != nil {
				t.Fatal(err)
			}
			if len(all) > 0 && r.Seq != all[len(all)-1].Seq+1 {
				t.Fatalf("seq %d follows %d", r.Seq, all[len(all)-1].Seq)
			}
			if r.ID[6]>>4 == 7 {
				if bytes.Compare(r.ID[:], lastID[:]) <= 0 {
					t.Fatalf("id %s follows %s", r.ID, lastID)
				}
				lastID = r.ID
			}
			c := *r
			c.Usage = bytes.Clone(r.Usage)
			all = append(all, c)
			n++
		}
		if n != s.Count() {
			t.Fatalf("segment %s has %d records", s, n)
		}
	}
	return all
}

// checkLedger asserts the three identities of the ledger.
func checkLedger(t *testing.T, l *Log) Ledger {
	t.Helper()
	g := l.Ledger()
	sum := func(m map[string]uint64) (n uint64) {
		for _, v := range m {
			n += v
		}
		return n
	}
	var appended uint64
	for s, d := range g.BySource {
		if d.Received != d.Accepted+sum(d.Rejected) {
			t.Errorf("%s: received does not balance: %+v", Source(s), d)
		}
		if d.Accepted != d.Appended+d.Repeated+sum(d.Dropped)+d.Waiting {
			t.Errorf("%s: accepted does not balance: %+v", Source(s), d)
		}
		appended += d.Appended
	}
	if appended+g.Recovered != g.Pending+g.Shipped+g.Quarantined+g.Evicted {
		t.Errorf("appended does not balance: %+v", g)
	}
	return g
}

func TestAppendedRecordsComeBackAsTheyWere(t *testing.T) {
	l := open(t, t.TempDir(), Options{Node: "edge-1"})
	before := time.Now().UnixMicro()
	recs := []Record{
		{Usage: usage(1)},
		{Usage: usage(2), Client: "clinic"},
		{Usage: usage(3), Source: HTTP, ID: ID{6: 0x80, 15: 9}},
		{Usage: bytes.Repeat([]byte("x"), 3<<20)},
	}
	for i := range recs {
		mustAppend(t, l, recs[i:i+1]...)
	}
	if n := l.Enqueue(Record{Usage: usage(5), Source: UDP}, Record{Usage: usage(6), Source: UDP}); n != 2 {
		t.Fatalf("enqueued %d of 2", n)
	}
	mustSeal(t, l)
	got := readAll(t, l)
	if len(got) != 6 {
		t.Fatalf("%d records came back, want 6", len(got))
	}
	for i, want := range recs {
		if !bytes.Equal(got[i].Usage, want.Usage) || got[i].Client != want.Client ||
			got[i].ID != want.ID || got[i].ReceivedAt != want.ReceivedAt || got[i].Seq != uint64(i+1) {
			t.Errorf("record %d came back as %+v", i, got[i].ID)
		}
		if want.ReceivedAt < before {
			t.Errorf("record %d has no time", i)
		}
	}
	if got[2].ID != (ID{6: 0x80, 15: 9}) {
		t.Errorf("an id that was given was replaced by %s", got[2].ID)
	}
	if got[4].Source != UDP || got[0].Source != HTTP {
		t.Error("the source was not kept")
	}
	segments, _ := l.Sealed()
	h, err := segments[0].Header()
	if err != nil || h.Node != "edge-1" || h.LogID == 0 || h.Run == 0 {
		t.Errorf("header %+v, %v", h, err)
	}
	g := checkLedger(t, l)
	if g.Pending != 6 || g.BySource[UDP].Appended != 2 || g.BySource[HTTP].Appended != 4 {
		t.Errorf("ledger %+v", g)
	}
}

func TestConcurrentAppendsShareCommitsAndStayWhole(t *testing.T) {
	l := open(t, t.TempDir(), Options{SegmentSize: 16 << 10})
	const appenders, each = 50, 40
	var wg sync.WaitGroup
	for a := range appenders {
		wg.Go(func() {
			for i := range each {
				if err := l.Append(context.Background(), Record{Usage: usage(a*each + i)}); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					checkLedger(t, l)
				}
			}
		})
	}
	wg.Wait()
	mustSeal(t, l)
	seen := map[string]int{}
	for _, r := range readAll(t, l) {
		seen[string(r.Usage)]++
	}
	for i := range appenders * each {
		if seen[string(usage(i))] != 1 {
			t.Fatalf("usage %d is there %d times", i, seen[string(usage(i))])
		}
	}
	if n := l.Stats().CommitRecords.Count(); n >= appenders*each {
		t.Errorf("%d commits for %d appends: none was shared", n, appenders*each)
	}
	if segments, _ := l.Sealed(); len(segments) < 2 {
		t.Errorf("%d segments, the size bound did not seal any", len(segments))
	}
}

func TestReopenGoesOnWhereTheLogEnded(t *testing.T) {
	dir := t.TempDir()
	total := 0
	var logID uint64
	for round := range 4 {
		l := open(t, dir, Options{})
		id, _ := l.Identity()
		if round > 0 && id != logID {
			t.Fatalf("log id changed from %x to %x", logID, id)
		}
		logID = id
		if g := checkLedger(t, l); g.Recovered != uint64(total) {
			t.Fatalf("round %d recovered %d records, want %d", round, g.Recovered, total)
		}
		for range round { // none in the first round
			mustAppend(t, l, Record{Usage: usage(total)})
			total++
		}
		mustClose(t, l)
	}
	l := open(t, dir, Options{})
	got := readAll(t, l)
	if len(got) != total {
		t.Fatalf("%d records, want %d", len(got), total)
	}
	for i, r := range got {
		if r.Seq != uint64(i+1) || !bytes.Equal(r.Usage, usage(i)) {
			t.Errorf("record %d is %d: %s", i, r.Seq, r.Usage)
		}
	}
}

func TestSeqSurvivesAnEmptyLog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	mustAppend(t, l, Record{Usage: usage(1)}, Record{Usage: usage(2)})
	mustSeal(t, l)
	segments, _ := l.Sealed()
	for range 2 { // removal may be repeated
		if err := segments[0].Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if g := checkLedger(t, l); g.Shipped != 2 || g.Pending != 0 {
		t.Errorf("ledger %+v", g)
	}
	mustClose(t, l)
	for range 3 {
		l = open(t, dir, Options{})
		mustClose(t, l)
	}
	l = open(t, dir, Options{})
	mustAppend(t, l, Record{Usage: usage(3)})
	mustSeal(t, l)
	segments, _ = l.Sealed()
	if len(segments) != 1 || segments[0].FirstSeq() != 3 {
		t.Fatalf("segments %v, want one from seq 3", segments)
	}
}

func TestSegmentIsSealedByAge(t *testing.T) {
	l := open(t, t.TempDir(), Options{SealAfter: 20 * time.Millisecond})
	_, more := l.Sealed()
	mustAppend(t, l, Record{Usage: usage(1)})
	<-more
	if segments, _ := l.Sealed(); len(segments) != 1 || l.Stats().Seals["age"] != 1 {
		t.Errorf("segments %v, seals %v", segments, l.Stats().Seals)
	}
}

func TestEmptySegmentIsNeverSealed(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	mustSeal(t, l)
	if segments, _ := l.Sealed(); len(segments) != 0 {
		t.Errorf("sealed %v", segments)
	}
}

func TestSecondDaemonOnADirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	mustAppend(t, l, Record{Usage: usage(1)})
	_, err := Open(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "in use by another collectord") ||
		!strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("error %v does not say who holds the directory", err)
	}
	mustAppend(t, l, Record{Usage: usage(2)})
	mustSeal(t, l)
	if n := len(readAll(t, l)); n != 2 {
		t.Errorf("%d records after the second daemon was refused, want 2", n)
	}
}

func TestFullLogRefusesAndTakesUpAgainByItself(t *testing.T) {
	l := open(t, t.TempDir(), Options{MaxBytes: 64 << 10})
	big := Record{Usage: bytes.Repeat([]byte("x"), 40<<10)}
	mustAppend(t, l, big)
	mustAppend(t, l, big)
	if err := l.Append(context.Background(), big); !errors.Is(err, ErrFull) {
		t.Fatalf("append to a full log: %v", err)
	}
	if n := l.Enqueue(Record{Usage: usage(1), Source: UDP}); n != 0 {
		t.Errorf("a full log took %d records", n)
	}
	g := checkLedger(t, l)
	if g.BySource[HTTP].Rejected[ReasonLogFull] != 1 || g.BySource[UDP].Rejected[ReasonLogFull] != 1 {
		t.Errorf("ledger %+v", g)
	}
	mustSeal(t, l)
	segments, _ := l.Sealed()
	if err := segments[0].Remove(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, big)
	checkLedger(t, l)
}

func TestQueueOfUDPIsBoundedAndCounted(t *testing.T) {
	l := open(t, t.TempDir(), Options{QueueBytes: 1000})
	recs := slices.Repeat([]Record{{Usage: bytes.Repeat([]byte("x"), 70), Source: UDP}}, 20)
	if n := l.Enqueue(recs...); n != 10 {
		t.Errorf("a queue of 1000 bytes took %d records of 100", n)
	}
	mustSeal(t, l)
	if g := checkLedger(t, l); g.BySource[UDP].Appended != 10 || g.BySource[UDP].Rejected[ReasonOverloaded] != 10 {
		t.Errorf("ledger %+v", g.BySource[UDP])
	}
}

func TestClosedLogRefuses(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	mustAppend(t, l, Record{Usage: usage(1)})
	l.Enqueue(Record{Usage: usage(2), Source: UDP})
	mustClose(t, l)
	if err := l.Append(context.Background(), Record{Usage: usage(3)}); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if n := l.Enqueue(Record{Usage: usage(4), Source: UDP}); n != 0 {
		t.Errorf("enqueue after close took %d", n)
	}
	g := checkLedger(t, l)
	if g.Pending != 2 || g.BySource[UDP].Waiting != 0 || g.BySource[HTTP].Rejected[ReasonShuttingDown] != 1 {
		t.Errorf("ledger %+v", g)
	}
}

func TestClockMayJump(t *testing.T) {
	var clock atomic.Int64 // microseconds
	start := time.Date(2026, 11, 23, 8, 30, 0, 0, time.UTC)
	clock.Store(start.UnixMicro())
	l := open(t, t.TempDir(), Options{
		SealAfter: 200 * time.Millisecond, // by the monotonic clock
		clock:     func() time.Time { return time.UnixMicro(clock.Load()) },
	})
	n, hours := 0, 0
	for _, jump := range []time.Duration{
		0, time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, -time.Second, time.Minute,
		time.Unix(1000, 0).Sub(start), 0,
	} {
		at := start.Add(jump).UnixMicro()
		if hourOf(at) != hourOf(clock.Load()) {
			hours++
		}
		clock.Store(at)
		l.Enqueue(Record{Source: UDP, Usage: usage(n)})
		mustAppend(t, l, Record{Usage: usage(n + 1)}, Record{Usage: usage(n + 2)})
		n += 3
		if jump == 24*time.Hour { // an age is no matter of the wall clock
			until(t, "the segment is sealed by age", func() bool { return l.Stats().Seals["age"] == 1 })
		}
	}
	mustSeal(t, l)
	if got := readAll(t, l); len(got) != n { // which checks that ids rise
		t.Errorf("%d records, want %d", len(got), n)
	}
	segments, _ := l.Sealed()
	for _, s := range segments {
		first := s.FirstReceivedAt()
		for r, err := range s.Records() {
			if err != nil || hourOf(r.ReceivedAt) != hourOf(first) {
				t.Errorf("segment %s holds records of %v and %v (%v)", s, time.UnixMicro(first).UTC(), time.UnixMicro(r.ReceivedAt).UTC(), err)
			}
		}
	}
	// One of the changes of hour met a segment that its age had sealed already.
	if got := l.Stats().Seals["hour"]; got != uint64(hours-1) {
		t.Errorf("%d segments sealed by the hour, want %d", got, hours-1)
	}
	checkLedger(t, l)
}

func TestASegmentIsPutAsideInPlaceOfAnEarlierOne(t *testing.T) {
	for name, left := range map[string][]string{"emptied": nil, "half removed": {segment.FileName}} {
		t.Run(name, func(t *testing.T) {
			l := open(t, t.TempDir(), Options{})
			dir := filepath.Join(l.dir, segment.ActiveName(4))
			for _, d := range []string{dir, dir + goneSuffix} {
				if err := os.Mkdir(d, 0o750); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range left {
				if err := os.WriteFile(filepath.Join(dir+goneSuffix, f), nil, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "mark"), nil, 0o640); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time it is done already
				if err := l.markDirGone(dir); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir+goneSuffix, "mark")); err != nil {
				t.Error(err)
			}
			if err := l.markDirGone(dir + "0"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("of no segment: %v", err)
			}
		})
	}
}

func TestAStormOfFailuresLeavesNoMoreThanOne(t *testing.T) {
	var failing atomic.Bool
	l := open(t, t.TempDir(), Options{
		ProbeMin: time.Microsecond,
	}.WithDatasync(func(f vfs.File) error {
		if failing.Load() {
			return syscall.EIO
		}
		return f.Datasync()
	}))
	for i := range 3 {
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	failing.Store(true)
	const storm = 16 // after each the disk is left alone for twice as long
	for failed := 0; failed < storm; {
		switch err := l.Append(context.Background(), Record{Usage: usage(9)}); {
		case errors.Is(err, ErrCommitFailed):
			failed++
		case errors.Is(err, ErrUnavailable): // until the next segment is there
			runtime.Gosched()
		default:
			t.Fatalf("append on a disk that fails: %v", err)
		}
	}
	names, err := os.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) > 6 { // LOG, lost, the sealed one, next, active, and a name that is kept
		t.Errorf("%d failures left %v", storm, names)
	}
	failing.Store(false)
	until(t, "the log takes records again", func() bool {
		return l.Append(context.Background(), Record{Usage: usage(3)}) == nil
	})
	mustSeal(t, l)
	got := readAll(t, l)
	if len(got) != 4 || !bytes.Equal(got[3].Usage, usage(3)) {
		t.Errorf("records %v", got)
	}
	checkLedger(t, l)
	until(t, "the names that were kept are gone", func() bool {
		gone, _ := filepath.Glob(filepath.Join(l.dir, "*"+goneSuffix))
		return len(gone) == 0
	})
}

func TestShippedWhileTheDiskFailsStillTellsTheNextSeq(t *testing.T) {
	var fails atomic.Bool
	l := open(t, t.TempDir(), Options{ProbeMin: time.Hour}.WithDatasync(func(f vfs.File) error {
		if fails.Load() {
			return syscall.EIO
		}
		return f.Datasync()
	}))
	mustAppend(t, l, Record{Usage: usage(1)}, Record{Usage: usage(2)})
	fails.Store(true)
	if err := l.Append(context.Background(), Record{Usage: usage(3)}); !errors.Is(err, ErrCommitFailed) {
		t.Fatal(err)
	}
	until(t, "the segment is sealed", func() bool { s, _ := l.Sealed(); return len(s) == 1 })
	segments, _ := l.Sealed()
	if err := segments[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if g := checkLedger(t, l); g.Shipped != 2 || g.Pending != 0 {
		t.Errorf("ledger %+v", g)
	}
	dir := t.TempDir() // as kill -9 leaves it
	if err := os.CopyFS(filepath.Join(dir, "wal"), os.DirFS(l.dir)); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, Options{})
	mustAppend(t, again, Record{Usage: usage(3)})
	mustSeal(t, again)
	segments, _ = again.Sealed()
	if len(segments) != 1 || segments[0].FirstSeq() != 3 {
		t.Errorf("segments %v, want one that begins with 3", segments)
	}
	mustClose(t, again)
}

func TestIntervalSyncAcknowledgesBeforeTheDisk(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Sync: SyncInterval, SyncInterval: time.Millisecond})
	for i := range 100 {
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	mustClose(t, l)
	l = open(t, dir, Options{})
	if n := len(readAll(t, l)); n != 100 {
		t.Errorf("%d records, want 100", n)
	}
}

func TestAFailedWriteEndsTheSegmentAndTheLogRecovers(t *testing.T) {
	t.Parallel()
	var closes atomic.Bool
	l := open(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
		if closes.Swap(false) {
			return errors.Join(f.Close(), f.Datasync())
		}
		return f.Datasync()
	}))
	mustAppend(t, l, Record{Usage: usage(1)})
	closes.Store(true)
	err := l.Append(context.Background(), Record{Usage: usage(2)})
	if !errors.Is(err, ErrCommitFailed) {
		t.Fatalf("append to a closed file: %v", err)
	}
	if err := l.Append(context.Background(), Record{Usage: usage(3)}); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("append after a failure: %v", err)
	}
	if err := l.Full(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("full: %v", err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for l.Full() != nil && time.Now().Before(deadline) {
		_, more := l.Sealed()
		select {
		case <-more:
		case <-time.After(10 * time.Millisecond):
		}
	}
	mustAppend(t, l, Record{Usage: usage(4)})
	mustSeal(t, l)
	got := readAll(t, l)
	if len(got) != 2 || !bytes.Equal(got[0].Usage, usage(1)) || !bytes.Equal(got[1].Usage, usage(4)) {
		t.Errorf("records %v", got)
	}
	g := checkLedger(t, l)
	if g.BySource[HTTP].Dropped[ReasonCommitFailed] != 1 || g.BySource[HTTP].Rejected[ReasonLogFull] != 1 {
		t.Errorf("ledger %+v", g.BySource[HTTP])
	}
	names, _ := filepath.Glob(filepath.Join(l.dir, "*"))
	if len(names) > 6 { // LOG, lost, next, two sealed, active
		t.Errorf("a failure left %v", names)
	}
}

// until waits for something that another goroutine brings about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come to pass", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestHangingSyncIsGivenUpAndTheLogRecovers(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	var hanging atomic.Bool
	l := open(t, t.TempDir(), Options{CommitTimeout: 50 * time.Millisecond}.WithDatasync(func(f vfs.File) error {
		if hanging.Load() {
			<-hang
			return nil
		}
		return f.Datasync()
	}))
	mustAppend(t, l, Record{Usage: usage(0)})
	hanging.Store(true)
	lost := make(chan error, 2)
	go func() { lost <- l.Append(context.Background(), Record{Usage: []byte(`{"lost":true}`)}) }()
	until(t, "the hanging commit", func() bool {
		return l.committer.diskWait.isBusy()
	})
	go func() { lost <- l.Append(context.Background(), Record{Usage: []byte(`{"lost":true}`)}) }()
	for range 2 {
		if err := <-lost; !errors.Is(err, ErrCommitFailed) && !errors.Is(err, ErrUnavailable) {
			t.Fatalf("append on a disk that hangs: %v", err)
		}
	}
	if err := l.Append(context.Background(), Record{Usage: usage(9)}); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("append while the disk hangs: %v", err)
	}
	checkLedger(t, l)
	hanging.Store(false)
	close(hang)
	until(t, "recovery", func() bool { return l.Full() == nil })
	mustAppend(t, l, Record{Usage: usage(1)})
	mustSeal(t, l)
	got := readAll(t, l)
	if len(got) != 2 || !bytes.Equal(got[0].Usage, usage(0)) || !bytes.Equal(got[1].Usage, usage(1)) {
		t.Errorf("records %v", got)
	}
	if g := checkLedger(t, l); g.BySource[HTTP].Appended != 2 || g.BySource[HTTP].Waiting != 0 {
		t.Errorf("ledger %+v", g)
	}
}

func TestHTTPGoesBeforeUDPIntoTheNextCommit(t *testing.T) {
	busy, hang := make(chan struct{}), make(chan struct{})
	var hangs atomic.Bool
	l := open(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
		if hangs.Swap(false) {
			close(busy)
			<-hang
		}
		return f.Datasync()
	}))
	mustAppend(t, l, Record{Usage: usage(0)})
	hangs.Store(true)
	var done sync.WaitGroup
	done.Go(func() { mustAppend(t, l, Record{Usage: usage(1)}) })
	<-busy // what comes now shares the commit after
	for i := range 3 {
		l.Enqueue(Record{Usage: usage(4 + i), Source: UDP})
	}
	done.Go(func() { mustAppend(t, l, Record{Usage: usage(2)}, Record{Usage: usage(3)}) })
	until(t, "the append is queued", func() bool { return l.Ledger().BySource[HTTP].Waiting == 3 })
	close(hang)
	done.Wait()
	mustSeal(t, l)
	got := readAll(t, l)
	for i, r := range got {
		if !bytes.Equal(r.Usage, usage(i)) {
			t.Errorf("record %d is %s", i, r.Usage)
		}
	}
	if len(got) != 7 || l.Stats().CommitRecords.Count() != 3 {
		t.Errorf("%d records in %d commits", len(got), l.Stats().CommitRecords.Count())
	}
}

func TestDropOldestEvictsWhatIsNotHeldAndNotesIt(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir(), Options{MaxBytes: 256 << 10, SegmentSize: 16 << 10, WhenFull: DropOldest})
	rec := Record{Usage: bytes.Repeat([]byte("x"), 9<<10)}
	mustAppend(t, l, rec)
	mustSeal(t, l)
	segments, _ := l.Sealed()
	held := segments[0]
	if !held.Hold() || held.Hold() {
		t.Fatal("a segment can be held once")
	}
	const n = 100
	for range n - 1 {
		if err := l.Append(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
		mustSeal(t, l)
		until(t, "room", func() bool {
			l.shelf.lock()
			defer l.shelf.unlock()
			return !l.shelf.isNearFullLocked()
		})
	}
	g := checkLedger(t, l)
	if g.Evicted < 70 || g.Pending+g.Evicted != n {
		t.Errorf("ledger %+v", g)
	}
	segments, _ = l.Sealed()
	if segments[0] != held {
		t.Error("a held segment was evicted")
	}
	if segments[1].FirstSeq() != g.Evicted+2 {
		t.Errorf("the oldest that was not held is %s, evicted %d", segments[1], g.Evicted)
	}
	notes, err := l.Losses()
	if err != nil || len(notes) != 1 || notes[0].FirstSeq != 2 || notes[0].LastSeq != g.Evicted+1 || notes[0].Reason != LossEvicted {
		t.Errorf("notes %+v, %v: want one for 2 to %d", notes, err, g.Evicted+1)
	}
	held.Release()
}

func TestFullLogKeepsSomeDistance(t *testing.T) {
	l := open(t, t.TempDir(), Options{MaxBytes: 320 << 10, SegmentSize: 16 << 10})
	rec := Record{Usage: bytes.Repeat([]byte("x"), 10<<10)}
	for {
		err := l.Append(context.Background(), rec)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		mustSeal(t, l)
	}
	segments, _ := l.Sealed()
	changes, was := 0, true
	for _, s := range segments {
		if err := s.Remove(); err != nil {
			t.Fatal(err)
		}
		if full := l.Full() != nil; full != was {
			changes, was = changes+1, full
		}
		if err := l.Full(); err == nil && s == segments[0] {
			t.Error("one removed segment is no distance")
		}
	}
	if changes != 1 {
		t.Errorf("the log changed between full and not %d times while it was emptied", changes)
	}
}
