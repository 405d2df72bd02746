package histogram

import (
	"slices"
	"testing"
	"time"
)

func TestHistogramCountsEachValueInTheFirstBucketThatReachesIt(t *testing.T) {
	for _, logRatio := range []int{1, 2} {
		for _, firstBound := range []uint64{1, 3, 256} {
			for v := range uint64(5000) {
				h := New(firstBound, logRatio, 5)
				h.Observe(v)
				d := h.Distribution()
				want := slices.IndexFunc(d.Bounds, func(b float64) bool { return float64(v) <= b })
				if want < 0 {
					want = len(d.Bounds)
				}
				if d.Counts[want] != 1 || d.Count() != 1 || d.Sum != float64(v) {
					t.Fatalf("first bound %d, %d: counted as %+v, want bucket %d", firstBound, v, d, want)
				}
			}
		}
	}
}

func TestLatenciesAreShownInSeconds(t *testing.T) {
	h := NewLatency()
	h.ObserveTime(100 * time.Microsecond)
	h.ObserveTime(time.Hour)
	h.ObserveTime(-time.Second) // a clock that was set back must not count as centuries
	d := h.Seconds()
	if d.Bounds[0] != 0.0001 || d.Counts[0] != 2 || d.Counts[len(d.Bounds)] != 1 || d.Sum != 3600.0001 {
		t.Errorf("distribution %+v", d)
	}
}
