package wal

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

func TestAFullLogRejectsAppendsAndRecovers(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{MaxBytes: 64 << 10})
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

func TestDropOldestEvictsAndNotesUnheldSegments(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir(), Options{MaxBytes: 256 << 10, SegmentSize: 16 << 10, WhenFull: DropOldest})
	rec := Record{Usage: bytes.Repeat([]byte("x"), 9<<10)}
	mustAppend(t, l, rec)
	mustSeal(t, l)
	segments, _ := l.Sealed()
	held := segments[0]
	if !held.Hold() || held.Hold() {
		t.Fatal("a segment must be held exactly once")
	}
	const n = 100
	for range n - 1 {
		if err := l.Append(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
		mustSeal(t, l)
		until(t, "the log is no longer near a bound", func() bool {
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

func TestAFullLogHasHysteresis(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{MaxBytes: 320 << 10, SegmentSize: 16 << 10})
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
			t.Error("the log has room after one removed segment")
		}
	}
	if changes != 1 {
		t.Errorf("the log changed between full and not full %d times while it was emptied, want once", changes)
	}
}
