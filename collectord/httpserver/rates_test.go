package httpserver

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRetryAfterIsSpread(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		s := retrySeconds(9500 * time.Millisecond)
		seen[s] = true
		if n, err := strconv.Atoi(s); err != nil || n < 10 || n > 16 {
			t.Errorf("Retry-After %s", s)
		}
	}
	if len(seen) < 4 || retrySeconds(0) == "0" {
		t.Errorf("only the values %v", seen)
	}
}

func TestUsagesBeyondTheRateGetRetryAfter(t *testing.T) {
	log := newMemoryLog()
	h, addr := startServer(t, log, Options{Limits: Limits{Rate: 0.001, Burst: 2}})
	responses, bodies := sendRaw(t, addr, strings.Repeat(post(`{"a":1}`), 3)+post("no JSON")+post(`{"a":1}`), 5)
	if len(responses) != 5 {
		t.Fatalf("%d responses, want 5: a client beyond the rate keeps its connection", len(responses))
	}
	for i, want := range []int{201, 201, 429, 400, 429} {
		if responses[i].StatusCode != want {
			t.Errorf("answer %d: %s %s", i, responses[i].Status, bodies[i])
		}
	}
	after, err := strconv.Atoi(responses[2].Header.Get("Retry-After"))
	// 1000 s, plus up to half as much at random, minus the time that a busy machine took.
	if err != nil || after < 900 || after > 1700 || !strings.Contains(bodies[2], `"code":"rate_limited"`) {
		t.Errorf("Retry-After of %d s, %v: %s", after, err, bodies[2])
	}
	if log.rejected["http rate_limited"] != 2 || len(log.usages) != 2 || h.Requests()[http.StatusTooManyRequests] != 2 {
		t.Errorf("rejected %v, stored %d", log.rejected, len(log.usages))
	}
	h.SetLimits(Limits{})
	if responses, _ := sendRaw(t, addr, post(`{"a":1}`), 1); responses[0].StatusCode != http.StatusCreated {
		t.Errorf("after the limit was removed: %s", responses[0].Status)
	}
}
