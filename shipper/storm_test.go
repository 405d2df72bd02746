package shipper

import (
	"flag"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

var storm = flag.Int("segments", 120, "how many segments go through a storage that does everything wrong; 10,000 in make torture")

// forEachCondition runs a test once for each way in which a storage may deal with the
// condition of a put, with its share of the segments, and all at once: they wait more
// than they work. What the storage can then be relied on for:
//
//   - honoured: nothing is replaced but a damaged copy, and of that only the version that
//     was seen to be damaged.
//   - ignored (200, and replaced): the storage is asked before each put instead. A put that
//     was given up, and carried out after all, replaces the next one; both have the same
//     content. A damaged copy is replaced, whatever version it is by then.
//   - refused (501, or 400): the same, but a damaged copy can't be replaced. It stays, and
//     the segment is stored beside it. An object that is whole, and is damaged on its way
//     here twice in a row, so gets a second copy, which is reported.
func forEachCondition(t *testing.T, test func(t *testing.T, conditions, segments int)) {
	t.Parallel()
	all := map[string]int{"honoured": s3test.Honour, "ignored": s3test.Ignore, "refused with 501": s3test.Refuse, "refused with 400": s3test.Misjudge}
	for name, conditions := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, conditions, *storm/len(all))
		})
	}
}

// TestAStorageThatDoesEverythingWrongGetsEverySegmentOnce ships through a
// storage of which each request may stand still, be cut off, be answered 500,
// 503, 403, 409 or, wrongly, 412, or be carried out and not answered.
func TestAStorageThatDoesEverythingWrongGetsEverySegmentOnce(t *testing.T) {
	forEachCondition(t, testStorm)
}

func testStorm(t *testing.T, conditions, segments int) {
	testrun.WaitPastHourEnd()
	f, store := newFake(t)
	l, err := wal.Open(t.TempDir(), wal.Options{Node: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const per = 2
	faults := [8]atomic.Int64{}
	ended := make(chan struct{})
	defer close(ended)
	f.Behave(s3test.Behaviour{
		Conditions: conditions,
		Fault: func(w http.ResponseWriter, r *http.Request) bool {
			n := rand.IntN(40)
			if n < 8 {
				faults[n%8].Add(1)
			}
			switch n {
			case 0: // stands still; rarely before the request is read
				if rand.IntN(2) == 0 {
					io.Copy(io.Discard, r.Body)
				}
				select {
				case <-r.Context().Done():
				case <-ended:
				case <-time.After(time.Second):
				}
				return true
			case 1:
				return s3test.Abort(w)
			case 2:
				return s3test.Error(w, http.StatusInternalServerError, "InternalError")
			case 3:
				return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
			case 4:
				return s3test.Error(w, http.StatusForbidden, "AccessDenied")
			case 5:
				return s3test.Error(w, http.StatusConflict, "ConditionalRequestConflict")
			case 6:
				return s3test.Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
			}
			return false
		},
		Stored: func(string) bool {
			lost := rand.IntN(10) == 0
			if lost {
				faults[7].Add(1)
			}
			return lost
		},
	})
	s := startWith(t, l, store, Options{Logger: slog.New(slog.DiscardHandler), Limits: Limits{
		Concurrency: 4, StallTimeout: 100 * time.Millisecond,
		RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond, RetryMaxPermanent: 10 * time.Millisecond,
	}})
	began := time.Now()
	fill(t, l, per*segments, per)
	for deadline := time.Now().Add(10 * (time.Minute + time.Duration(segments)*100*time.Millisecond)); l.Ledger().Pending > 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d records are still here; %+v", l.Ledger().Pending, s.Stats())
		}
	}
	took := time.Since(began)
	f.Behave(s3test.Behaviour{Conditions: conditions})
	checkOnce(t, store, per*segments)
	objects, replaced := 0, 0
	for key, puts := range f.Puts() {
		switch {
		case !strings.HasPrefix(key, "data/dt="):
		case strings.Contains(key, "~"):
			t.Errorf("a conflict that is none: %s", key)
		default:
			objects++
			replaced += puts - 1
		}
	}
	// Without conditions, a put that was given up and one that came after it
	// can both be carried out; they write the same.
	if objects != segments || replaced > 0 && conditions == s3test.Honour {
		t.Errorf("%d objects for %d segments, %d written again", objects, segments, replaced)
	}
	var counts [8]int64
	for i := range faults {
		counts[i] = faults[i].Load()
	}
	t.Logf("%d segments in %v, %d requests; stalls, resets, 500, 503, 403, 409, 412, lost answers: %v; failures %v",
		segments, took.Round(time.Millisecond), f.Requests(), counts, s.Stats().Failures)
}
