package wal

import (
	"context"
	"sync"
	"testing"
)

// TestALogBeingWrittenNeverCountsAsDamaged inspects a log while segments are filled,
// sealed and removed.
func TestALogBeingWrittenNeverCountsAsDamaged(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{SegmentSize: 16 << 10})
	stop := make(chan struct{})
	var done sync.WaitGroup
	defer done.Wait()
	defer close(stop)
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	for range 8 {
		done.Go(func() {
			for !stopped() {
				if err := l.Append(context.Background(), Record{Usage: usage(1)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done.Go(func() {
		for !stopped() {
			segments, more := l.Sealed()
			for _, s := range segments {
				if err := s.Remove(); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-more:
			case <-stop:
			}
		}
	})
	var records, vanished uint64
	for looks := 0; looks < 1000 || records == 0; looks++ {
		i, err := Inspect(dir)
		if err != nil || !i.Live() {
			t.Fatalf("live: %v, %v", i.Live(), err)
		}
		entries, err := i.Entries()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.State == StateNext || e.State == StateGone {
				continue
			}
			n := uint64(0)
			r, err := i.Examine(e, func(*Record) error { n++; return nil })
			switch {
			case err != nil:
				t.Fatal(err)
			case r.Vanished:
				vanished++
			case !r.OK():
				t.Fatalf("%s counts as damaged: %v %v %v", e.Name, r.Reason, r.Damaged, r.Lost)
			}
			records += n
		}
	}
	t.Logf("%d records read, %d segments vanished meanwhile", records, vanished)
}
