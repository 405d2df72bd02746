package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"collectord/wal/vfs"
)

func TestRecordsAreReadAsTheyWereAppended(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{Node: "edge-1"})
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
		t.Errorf("the caller's id was replaced by %s", got[2].ID)
	}
	if got[4].Source != UDP || got[0].Source != HTTP {
		t.Error("a record came back with another source")
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

func TestAReopenedLogContinuesItsSeqs(t *testing.T) {
	dir := t.TempDir()
	total := 0
	var logID uint64
	for round := range 4 {
		l := openLog(t, dir, Options{})
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
	l := openLog(t, dir, Options{})
	got := readAll(t, l)
	if len(got) != total {
		t.Fatalf("%d records, want %d", len(got), total)
	}
	for i, r := range got {
		if r.Seq != uint64(i+1) || !bytes.Equal(r.Usage, usage(i)) {
			t.Errorf("record %d has seq %d: %s", i, r.Seq, r.Usage)
		}
	}
}

func TestSeqSurvivesAnEmptyLog(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	mustAppend(t, l, Record{Usage: usage(1)}, Record{Usage: usage(2)})
	mustSeal(t, l)
	segments, _ := l.Sealed()
	for range 2 { // a repeated removal does nothing
		if err := segments[0].Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if g := checkLedger(t, l); g.Shipped != 2 || g.Pending != 0 {
		t.Errorf("ledger %+v", g)
	}
	mustClose(t, l)
	for range 3 {
		l = openLog(t, dir, Options{})
		mustClose(t, l)
	}
	l = openLog(t, dir, Options{})
	mustAppend(t, l, Record{Usage: usage(3)})
	mustSeal(t, l)
	segments, _ = l.Sealed()
	if len(segments) != 1 || segments[0].FirstSeq() != 3 {
		t.Fatalf("segments %v, want one from seq 3", segments)
	}
}

func TestSegmentIsSealedByAge(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{SealAfter: 20 * time.Millisecond})
	_, more := l.Sealed()
	mustAppend(t, l, Record{Usage: usage(1)})
	<-more
	if segments, _ := l.Sealed(); len(segments) != 1 || l.Stats().Seals["age"] != 1 {
		t.Errorf("segments %v, seals %v", segments, l.Stats().Seals)
	}
}

func TestEmptySegmentIsNeverSealed(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	mustSeal(t, l)
	if segments, _ := l.Sealed(); len(segments) != 0 {
		t.Errorf("sealed %v", segments)
	}
}

func TestSecondDaemonOnADirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	mustAppend(t, l, Record{Usage: usage(1)})
	_, err := Open(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "in use by another collectord") ||
		!strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("error %v does not name the process that locked the directory", err)
	}
	mustAppend(t, l, Record{Usage: usage(2)})
	mustSeal(t, l)
	if n := len(readAll(t, l)); n != 2 {
		t.Errorf("%d records after the second daemon was refused, want 2", n)
	}
}

func TestQueueOfUDPIsBoundedAndCounted(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{QueueBytes: 1000})
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
	l := openLog(t, t.TempDir(), Options{})
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
	l := openLog(t, t.TempDir(), Options{
		SealAfter: time.Hour, // by the monotonic clock
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
		if jump == 24*time.Hour { // the age does not depend on the wall clock
			l.SetLimits(Limits{SealAfter: time.Millisecond})
			until(t, "the segment is sealed by age", func() bool { return l.Stats().Seals["age"] == 1 })
			l.SetLimits(Limits{SealAfter: time.Hour})
		}
	}
	mustSeal(t, l)
	if got := readAll(t, l); len(got) != n { // readAll checks that ids rise
		t.Errorf("%d records, want %d", len(got), n)
	}
	segments, _ := l.Sealed()
	for _, s := range segments {
		first := s.FirstReceivedAt()
		for r, err := range s.Records() {
			if err != nil || hourOf(r.ReceivedAt) != hourOf(first) {
				t.Errorf("segment %s has records of %v and %v (%v)", s, time.UnixMicro(first).UTC(), time.UnixMicro(r.ReceivedAt).UTC(), err)
			}
		}
	}
	// At one change of hour the segment had already been sealed by age.
	if got := l.Stats().Seals["hour"]; got != uint64(hours-1) {
		t.Errorf("%d segments sealed by the hour, want %d", got, hours-1)
	}
	checkLedger(t, l)
}

func TestHTTPRecordsPrecedeUDPRecordsInACommit(t *testing.T) {
	busy, hang := make(chan struct{}), make(chan struct{})
	var hangs atomic.Bool
	l := openLog(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
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
	<-busy // later records share the next commit
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
