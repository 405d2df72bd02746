package ingest

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestARateHoldsAfterItsBurst(t *testing.T) {
	var r rates
	now := time.Now()
	take := func(token string, n int, want bool, wantAfter time.Duration) {
		t.Helper()
		ok, after := r.take(token, n, now)
		if ok != want || (after-wantAfter).Abs() > time.Millisecond {
			t.Errorf("%d of %q: %v, again after %v; want %v, %v", n, token, ok, after, want, wantAfter)
		}
	}
	take("", 1<<30, true, 0) // no limit

	r.setOverall(10, 0, now)
	take("", 10, true, 0)
	take("", 1, false, 100*time.Millisecond)
	now = now.Add(300 * time.Millisecond)
	take("", 4, false, 100*time.Millisecond) // all or nothing
	take("", 3, true, 0)
	now = now.Add(time.Hour)
	take("", 10, true, 0)
	take("", 1, false, 100*time.Millisecond) // what was not used is not saved up

	// A batch beyond the burst waits for a full bucket and leaves a debt.
	now = now.Add(500 * time.Millisecond)
	take("", 100, false, 500*time.Millisecond)
	now = now.Add(500 * time.Millisecond)
	take("", 100, true, 0)
	take("", 1, false, 9100*time.Millisecond)
	take("", 1000, false, 10*time.Second)

	// A new rate pays the rest of the debt, at its own pace.
	r.setOverall(100, 20, now)
	take("", 1, false, 910*time.Millisecond)
	r.setOverall(0, 0, now)
	take("", 1<<30, true, 0)
	r.setOverall(0.5, 0, now) // less than one a second: still one at once
	take("", 1, true, 0)
	take("", 1, false, 2*time.Second)
	now = now.Add(-time.Minute) // what comes late is treated as what comes now
	take("", 1, false, 2*time.Second)
}

func TestATokensRateIsItsOwn(t *testing.T) {
	var r rates
	now := time.Now()
	r.setTokens(map[string]float64{"a": 2, "b": 0}, now)
	r.setOverall(5, 0, now)
	take := func(token string, n int, want bool) {
		t.Helper()
		if ok, _ := r.take(token, n, now); ok != want {
			t.Errorf("%d of %q: %v", n, token, ok)
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
	take("a", 1, false) // by the overall rate: costs a nothing of its own
	r.setOverall(0, 0, now)
	take("a", 1, true)

	// A reload forgets nothing of names that stay.
	r.setTokens(map[string]float64{"a": 2, "c": 1}, now)
	take("a", 1, false)
	take("c", 1, true)
	r.setTokens(nil, now)
	take("a", 1000, true)
}

func TestTakingAllocatesNothing(t *testing.T) {
	var r rates
	now := time.Now()
	r.setTokens(map[string]float64{"a": 1e6}, now)
	r.setOverall(1e6, 0, now)
	if n := testing.AllocsPerRun(1000, func() { r.take("a", 1, now) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTake(b *testing.B) {
	var r rates
	r.setOverall(1e12, 0, time.Now())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.take("", 1, time.Now())
		}
	})
}

func TestRetryAfterIsWhenThereIsRoomAndNotTheSameForAll(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		s := spread(9500 * time.Millisecond)
		seen[s] = true
		if n, err := strconv.Atoi(s); err != nil || n < 10 || n > 16 {
			t.Errorf("Retry-After %s", s)
		}
	}
	if len(seen) < 4 || spread(0) == "0" {
		t.Errorf("always one of %v", seen)
	}
}

func TestUsagesBeyondTheRateAreToldWhenToComeBack(t *testing.T) {
	log := newMemoryLog()
	h, addr := door(t, log, HTTPOptions{Limits: HTTPLimits{Rate: 0.1, Burst: 2}})
	answers, bodies := talk(t, addr, strings.Repeat(post(`{"a":1}`), 3)+post("no JSON")+post(`{"a":1}`), 5)
	if len(answers) != 5 {
		t.Fatalf("%d answers: a client beyond the rate keeps its connection", len(answers))
	}
	for i, want := range []int{201, 201, 429, 400, 429} {
		if answers[i].StatusCode != want {
			t.Errorf("answer %d: %s %s", i, answers[i].Status, bodies[i])
		}
	}
	after, err := strconv.Atoi(answers[2].Header.Get("Retry-After"))
	if err != nil || after < 9 || after > 17 || !strings.Contains(bodies[2], `"code":"rate_limited"`) {
		t.Errorf("again after %d s, %v: %s", after, err, bodies[2])
	}
	if log.rejected["http rate_limited"] != 2 || len(log.usages) != 2 || h.Requests()[http.StatusTooManyRequests] != 2 {
		t.Errorf("counted %v, stored %d", log.rejected, len(log.usages))
	}
	h.SetLimits(HTTPLimits{})
	if answers, _ := talk(t, addr, post(`{"a":1}`), 1); answers[0].StatusCode != http.StatusCreated {
		t.Errorf("after the limit was lifted: %s", answers[0].Status)
	}
}
