package wal

import (
	"context"
	"testing"
)

func TestProgressReportsAcknowledgedAndConfirmedSeqs(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	want := func(what string, last, below uint64) {
		t.Helper()
		gotLast, gotBelow, err := l.Progress()
		if err != nil || gotLast != last || gotBelow != below {
			t.Errorf("%s: up to %d, confirmed below %d, %v; want %d and %d", what, gotLast, gotBelow, err, last, below)
		}
	}
	store := func(n int) {
		t.Helper()
		for range n {
			if err := l.Append(context.Background(), Record{Usage: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want("an empty log", 0, 1)
	store(5)
	want("records in the active segment", 5, 1)
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	want("a sealed segment", 5, 1)
	store(3)
	segments, _ := l.Sealed()
	if err := segments[0].Remove(); err != nil {
		t.Fatal(err)
	}
	want("a segment that was shipped, and records behind it", 8, 6)
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	segments, _ = l.Sealed()
	if err := segments[0].Remove(); err != nil {
		t.Fatal(err)
	}
	want("all is shipped", 8, 9)
}
