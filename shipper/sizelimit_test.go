package shipper

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

func TestARefusedSizeIsRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l sizeLimit
		refusal := &bucket.Error{Kind: bucket.TooLarge}
		check := func(when string, size int64, want bool) {
			t.Helper()
			if got := l.refusalOf(size) != nil; got != want {
				t.Errorf("%s: an object of %d bytes counts as refused: %t", when, size, got)
			}
		}
		check("before any refusal", 1<<40, false)
		l.record(100, &bucket.Error{Kind: "network"})
		check("after another error", 100, false)
		l.record(100, refusal)
		check("after a refusal", 99, false)
		check("after a refusal", 100, true)
		l.record(50, refusal)
		l.record(49, nil)
		check("after the refusal of a smaller object", 50, true)
		time.Sleep(refusalValidFor - time.Minute)
		l.record(200, refusal) // such as an object that can't be split and is retried
		check("before the refusal is outdated", 50, true)
		time.Sleep(time.Minute)
		check("after the refusal is outdated", 1000, false)
		l.record(1000, refusal)
		check("after a new refusal", 1000, true)
		check("after a new refusal", 999, false)
		l.record(1000, nil)
		check("after an object of that size was accepted", 1000, false)
	})
}

func TestOnlyTheFirstTooLargeSegmentIsSent(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	var refused atomic.Int64
	f.Behave(s3test.Behaviour{Fault: s3test.Refusals()["nginx"].Counted(&refused).Above(s3test.Limit(60 << 10))})
	l := openLog(t, t.TempDir())
	for n := range 6 { // each larger than the previous one
		for i := range 2 {
			if err := l.Append(context.Background(), largeRecord(2*n+i, (40+n)<<10)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Seal(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	s := startWith(t, l, store, Options{Limits: Limits{Concurrency: 1, RetryMin: time.Hour, RetryMax: time.Hour, RetryMaxPermanent: time.Hour}})
	until(t, "all records are shipped", func() bool { return l.Ledger().Pending == 0 })
	drain(t, s, 0)
	if n := refused.Load(); n != 1 {
		t.Errorf("%d objects were refused, want 1", n)
	}
	if n := s.Stats().Objects; n != 12 {
		t.Errorf("got %d objects, want 12", n)
	}
	checkStoredOnce(t, store, 12)
	checkAudit(t, store)
}

// A frame that can't be split is retried whole. After the limit was raised, later segments
// are shipped whole.
func TestARaisedLimitIsNoticed(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	limit := s3test.Limit(90 << 10)
	var refused atomic.Int64
	f.Behave(s3test.Behaviour{Fault: s3test.Refusals()["nginx"].Counted(&refused).Above(limit)})
	l := openLog(t, t.TempDir())
	fillLarge(t, l, 1, 200<<10)
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond, RetryMaxPermanent: time.Millisecond}})
	until(t, "several attempts were refused", func() bool { return refused.Load() > 3 })
	limit.Store(1 << 30)
	drainAll(t, s)
	objects := s.Stats().Objects
	for i := 1; i < 9; i++ {
		if err := l.Append(context.Background(), largeRecord(i, 40<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	drainAll(t, s)
	if st := s.Stats(); st.Objects != objects+1 {
		t.Errorf("got %d more objects, want 1", st.Objects-objects)
	}
	checkStoredOnce(t, store, 9)
}
