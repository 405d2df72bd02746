package shipper

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

func TestAFleetDoesNotRetryInStep(t *testing.T) {
	const nodes, outage = 2000, 10 * time.Minute
	start := time.Unix(0, 0)
	returned := make([]int, 61) // number of nodes by second after the end of the outage
	for range nodes {
		var b backoff
		now := start
		for now.Sub(start) < outage {
			b.addFailure(now, time.Second, time.Minute, 0)
			now = b.until
		}
		returned[int((now.Sub(start)-outage)/time.Second)]++
	}
	// An even spread over a minute would be 33 a second. Nodes with a long backoff return
	// early, too.
	if maxReturned := slices.Max(returned); maxReturned > nodes/12 {
		t.Errorf("%d of %d nodes return in the same second: %v", maxReturned, nodes, returned)
	}
	// If the storage asks all nodes to wait a minute, the delays still differ.
	var until []time.Duration
	for range nodes {
		b := backoff{bound: 16 * time.Second}
		b.addFailure(start, time.Second, time.Minute, time.Minute)
		until = append(until, b.until.Sub(start))
	}
	slices.Sort(until)
	if until[0] < time.Minute || until[nodes/2]-until[0] < 10*time.Second {
		t.Errorf("shortest, median and longest delay: %v, %v, %v", until[0], until[nodes/2], until[nodes-1])
	}
}

func TestRetryAfterIsHonouredUpToABound(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	retryAfter := ""
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", retryAfter)
		return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
	}})
	s, err := New(openLog(t, t.TempDir()), store, Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	const date = "in 2 minutes"
	for header, want := range map[string]time.Duration{
		"90": 90 * time.Second, "": 0, "soon": 0, "-1": 0, "999999999": 5 * time.Minute, "99999999999999999999": 0, date: 2 * time.Minute,
	} {
		retryAfter = header
		from := time.Now()
		if header == date {
			retryAfter = from.Add(want).UTC().Format(http.TimeFormat)
		}
		err := store.Put(bucket.WithCallOptions(context.Background(), &bucket.CallOptions{}), bucket.NewObject("a", []byte("x")))
		q := newQueue(s)
		began := time.Now()
		s.stats.InFlight++
		q.handleResult(context.Background(), result{began: began, err: err})
		if q.storageBackoff.until.Before(from.Add(want-2*time.Second)) || q.storageBackoff.until.After(time.Now().Add(want+2*time.Second)) {
			t.Errorf("Retry-After %q: waits %v", header, q.storageBackoff.until.Sub(began))
		}
	}
}

// While the storage fails, a higher concurrency does not cause more requests.
func TestConcurrencyDoesNotMultiplyAttempts(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	probeStore(t, store)
	var inFlight, maxInFlight atomic.Int64
	var healthy atomic.Bool
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		n := inFlight.Add(1)
		defer inFlight.Add(-1)
		for m := maxInFlight.Load(); n > m && !maxInFlight.CompareAndSwap(m, n); m = maxInFlight.Load() {
		}
		if healthy.Load() {
			return false
		}
		<-time.After(10 * time.Millisecond) // so that concurrent requests overlap
		return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
	}})
	l := openLog(t, t.TempDir())
	fill(t, l, 20, 1)
	s := startWith(t, l, store, Options{Limits: Limits{Concurrency: 8, RetryMin: 10 * time.Millisecond, RetryMax: 10 * time.Millisecond}})
	until(t, "the first attempts failed", func() bool { return s.Stats().Failures["SlowDown"] > 8 })
	maxInFlight.Store(0)
	before := s.Stats().Failures["SlowDown"]
	until(t, "more failed", func() bool { return s.Stats().Failures["SlowDown"] > before+20 })
	if maxInFlight.Load() > 1 {
		t.Errorf("got %d concurrent requests while the storage fails, want 1", maxInFlight.Load())
	}
	healthy.Store(true)
	drainAll(t, s)
	checkStoredOnce(t, store, 20)
}

func TestFailuresOfOneMomentCountOnce(t *testing.T) {
	_, store := newFake(t)
	s, err := New(openLog(t, t.TempDir()), store, Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(s)
	began := time.Now()
	for range 8 {
		s.stats.InFlight++
		q.handleResult(context.Background(), result{began: began, err: &bucket.Error{Op: "put", Kind: "network", Err: io.EOF}})
	}
	if q.storageBackoff.bound != s.limits.RetryMin || s.stats.Failures["network"] != 8 {
		t.Errorf("the bound is %v after one round of failures, want RetryMin", q.storageBackoff.bound)
	}
}

func TestAnInterruptedDownloadIsNoConflict(t *testing.T) {
	f, store := newFake(t)
	l := openLog(t, t.TempDir())
	fill(t, l, 1000, 1000)
	segments, _ := l.Sealed()
	f.Behave(s3test.Behaviour{NoMetadata: true}) // so that Compare must read the lines
	o := compressCopy(t, segments[0])
	if err := store.Put(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	var broken atomic.Int64
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.Header.Get("Range") != "" || broken.Add(1) > 3 {
			return false
		}
		body := f.Objects()["data/"+o.Key].Body
		w.Header().Set("Content-Length", "1000000")
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
		w.Write(body[:len(body)/2])
		return true
	}})
	s := start(t, l, store)
	drainAll(t, s)
	if st := s.Stats(); st.Conflicts != 0 || broken.Load() < 4 {
		t.Errorf("got %d conflicts, %d downloads", st.Conflicts, broken.Load())
	}
	if len(f.Objects()) != 2 { // one object and the probe
		t.Errorf("got %d objects, want 2", len(f.Objects()))
	}
}

// A proxy with an outdated cache answers that the key is taken, and then that there is no
// object.
func TestAStorageThatContradictsItselfKeepsTheSegment(t *testing.T) {
	f, store := newFake(t)
	var lies atomic.Int64
	probeStore(t, store)
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPut && lies.Add(1) <= 3 && s3test.Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
	}})
	l := openLog(t, t.TempDir())
	fill(t, l, 20, 10)
	s := start(t, l, store)
	drainAll(t, s)
	checkStoredOnce(t, store, 20)
	if st := s.Stats(); st.Failures["contradiction"] != 3 || st.Conflicts != 0 {
		t.Errorf("%+v", st)
	}
}

func TestASegmentWithAConflictDoesNotDelayOthers(t *testing.T) {
	f, store := newFake(t)
	l := openLog(t, t.TempDir())
	fill(t, l, 50, 10)
	segments, _ := l.Sealed()
	// Other content has both keys of the third segment.
	o := compressCopy(t, segments[2])
	f.Put("data/"+o.Key, []byte("something else"))
	f.Put("data/"+o.Beside().Key, compressLines(t, "{}\n"))
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: time.Hour, RetryMax: time.Hour, RetryMaxPermanent: time.Hour}})
	until(t, "the other segments are shipped", func() bool { return l.Ledger().Pending == 10 })
	if err := l.Append(context.Background(), wal.Record{Usage: []byte(`{"n":50}`)}); err != nil {
		t.Fatal(err)
	}
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	until(t, "a later segment is shipped, too", func() bool { return l.Ledger().Pending == 10 })
	until(t, "the conflict is counted", func() bool { return s.Stats().Failures["conflict"] > 0 })
}

// The error does not show that the object is its cause. The success of the other segments shows
// it.
func TestAKeyThatIsAlwaysDeniedDoesNotDelayOthers(t *testing.T) {
	f, store := newFake(t)
	l := openLog(t, t.TempDir())
	fill(t, l, 100, 2)
	refused := keyOfSealed(t, l, 0)
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, refused) && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: 20 * time.Millisecond, RetryMax: time.Hour, RetryMaxPermanent: time.Hour}})
	until(t, "the other segments are shipped", func() bool { return l.Ledger().Pending == 2 })
	// Each attempt delays the other segments for a moment.
	if n := s.Stats().Failures["AccessDenied"]; n < maxSuspicions || n > 2*maxSuspicions+4 {
		t.Errorf("the refused segment was tried %d times", n)
	}
	f.Behave(s3test.Behaviour{})
	drainAll(t, s)
	checkStoredOnce(t, store, 100)
}

func keyOfSealed(t *testing.T, l *wal.Log, i int) string {
	t.Helper()
	segments, _ := l.Sealed()
	return compressCopy(t, segments[i]).Key
}

func TestTheOldestGoesFirstAgainAfterAnOutage(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	probeStore(t, store)
	l := openLog(t, t.TempDir())
	fill(t, l, 20, 2)
	var failing atomic.Bool
	failing.Store(true)
	var mu sync.Mutex
	var order []string
	f.Behave(s3test.Behaviour{
		Fault: func(w http.ResponseWriter, _ *http.Request) bool {
			return failing.Load() && s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
		},
		Stored: func(key string) bool {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, key)
			return false
		},
	})
	s := startWith(t, l, store, Options{Limits: Limits{Concurrency: 1, RetryMin: time.Millisecond, RetryMax: time.Millisecond}})
	until(t, "many attempts have failed", func() bool { return s.Stats().Failures["SlowDown"] > 12 })
	failing.Store(false)
	drainAll(t, s)
	// The segment whose turn it was is stored first, then the oldest.
	if len(order) != 10 || !slices.IsSorted(order[1:]) {
		t.Errorf("got the order %q", order)
	}
}
