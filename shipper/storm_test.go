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

var stormSegments = flag.Int("segments", 120, "how many segments go through a storage that does everything wrong; 10,000 in make torture")

// forEachCondition runs a test for each way in which a storage may handle the condition of a put.
// The tests run at once, since they mostly wait, and share the segments. The guarantees differ,
// if the condition is
//
//   - honoured: only the damaged version of an object is replaced.
//   - ignored (200, and replaced): the shipper sends a HEAD before each put. If an aborted put
//     is carried out later, it replaces the object of the next put with the same content. A
//     damaged copy is replaced, even if another version is there by then.
//   - refused (501 or 400): the same, but a damaged copy can't be replaced, so the segment is
//     stored beside it. An intact object that is corrupted in transit twice in a row thus gets
//     a second copy, which is reported.
func forEachCondition(t *testing.T, test func(t *testing.T, conditions, segments int)) {
	t.Parallel()
	all := map[string]int{"honoured": s3test.Honour, "ignored": s3test.Ignore, "refused with 501": s3test.Refuse, "refused with 400": s3test.RefuseAsInvalid}
	for name, conditions := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, conditions, *stormSegments/len(all))
		})
	}
}

// TestAStorageThatDoesEverythingWrongGetsEverySegmentOnce ships through a storage that
// stalls, aborts, answers 500, 503, 403, 409 or a wrong 412, or stores without an answer.
func TestAStorageThatDoesEverythingWrongGetsEverySegmentOnce(t *testing.T) {
	forEachCondition(t, testStorm)
}

func testStorm(t *testing.T, conditions, segments int) {
	testrun.WaitPastHourEnd()
	f, store := newFake(t)
	l, err := wal.Open(t.TempDir(), wal.Options{Node: "edge-1", SegmentSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const recordsPerSegment = 2
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
			case 0: // stalls, rarely before it has read the request
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
	fill(t, l, recordsPerSegment*segments, recordsPerSegment)
	for deadline := time.Now().Add(10 * (time.Minute + time.Duration(segments)*100*time.Millisecond)); l.Ledger().Pending > 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d records are still pending; %+v", l.Ledger().Pending, s.Stats())
		}
	}
	took := time.Since(began)
	f.Behave(s3test.Behaviour{Conditions: conditions})
	checkStoredOnce(t, store, recordsPerSegment*segments)
	objects, replaced := 0, 0
	for key, puts := range f.Puts() {
		switch {
		case !strings.HasPrefix(key, "data/dt="):
		case strings.Contains(key, "~"):
			t.Errorf("stored beside, though there is no conflict: %s", key)
		default:
			objects++
			replaced += puts - 1
		}
	}
	// Without conditions, an aborted put and a later one may both be carried out. They write
	// the same bytes.
	if objects != segments || replaced > 0 && conditions == s3test.Honour {
		t.Errorf("got %d objects for %d segments, %d of them written again", objects, segments, replaced)
	}
	var counts [8]int64
	for i := range faults {
		counts[i] = faults[i].Load()
	}
	t.Logf("%d segments in %v, %d requests; stalls, aborts, 500, 503, 403, 409, 412, lost answers: %v; failures %v",
		segments, took.Round(time.Millisecond), f.Requests(), counts, s.Stats().Failures)
}
