package auth

import (
	"testing"
	"time"
)

func TestARateHoldsAfterItsBurst(t *testing.T) {
	var r Rates
	now := time.Now()
	take := func(token string, n int, want bool, wantAfter time.Duration) {
		t.Helper()
		ok, after := r.Take(token, n, now)
		if ok != want || (after-wantAfter).Abs() > time.Millisecond {
			t.Errorf("%d usages of token %q: %v, retry after %v; want %v, %v", n, token, ok, after, want, wantAfter)
		}
	}
	take("", 1<<30, true, 0) // no limit

	r.SetOverall(10, 0, now)
	take("", 10, true, 0)
	take("", 1, false, 100*time.Millisecond)
	now = now.Add(300 * time.Millisecond)
	take("", 4, false, 100*time.Millisecond) // all or nothing
	take("", 3, true, 0)
	now = now.Add(time.Hour)
	take("", 10, true, 0)
	take("", 1, false, 100*time.Millisecond) // unused usages are not saved beyond the burst

	// A batch beyond the burst waits for a full bucket and leaves a debt.
	now = now.Add(500 * time.Millisecond)
	take("", 100, false, 500*time.Millisecond)
	now = now.Add(500 * time.Millisecond)
	take("", 100, true, 0)
	take("", 1, false, 9100*time.Millisecond)
	take("", 1000, false, 10*time.Second)

	// After a change of the rate, the debt is refilled at the new rate.
	r.SetOverall(100, 20, now)
	take("", 1, false, 910*time.Millisecond)
	r.SetOverall(0, 0, now)
	take("", 1<<30, true, 0)
	r.SetOverall(0.5, 0, now) // less than one per second: the burst is still one usage
	take("", 1, true, 0)
	take("", 1, false, 2*time.Second)
	now = now.Add(-time.Minute) // an earlier time counts as the latest one
	take("", 1, false, 2*time.Second)
}

func TestTokensHaveTheirOwnRates(t *testing.T) {
	var r Rates
	now := time.Now()
	r.SetTokens(map[string]float64{"a": 2, "b": 0}, now)
	r.SetOverall(5, 0, now)
	take := func(token string, n int, want bool) {
		t.Helper()
		if ok, _ := r.Take(token, n, now); ok != want {
			t.Errorf("%d usages of token %q: %v, want %v", n, token, ok, want)
		}
	}
	take("a", 2, true)
	take("a", 1, false)
	take("b", 3, true)
	take("b", 1, false) // by the overall rate
	now = now.Add(200 * time.Millisecond)
	take("b", 1, true)
	now = now.Add(300 * time.Millisecond) // 1 for a; 1.5 for all
	take("b", 1, true)
	take("a", 1, false) // by the overall rate: consumes nothing of a's own limit
	r.SetOverall(0, 0, now)
	take("a", 1, true)

	// A token whose name stays keeps its fill level across a reload.
	r.SetTokens(map[string]float64{"a": 2, "c": 1}, now)
	take("a", 1, false)
	take("c", 1, true)
	r.SetTokens(nil, now)
	take("a", 1000, true)
}

func TestTakeAllocatesNothing(t *testing.T) {
	var r Rates
	now := time.Now()
	r.SetTokens(map[string]float64{"a": 1e6}, now)
	r.SetOverall(1e6, 0, now)
	if n := testing.AllocsPerRun(1000, func() { r.Take("a", 1, now) }); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkTake(b *testing.B) {
	var r Rates
	r.SetOverall(1e12, 0, time.Now())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Take("", 1, time.Now())
		}
	})
}
