package send

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreRightToWithinTwoPercent(t *testing.T) {
	h := &histogram{}
	var all []float64
	for range 200_000 {
		d := time.Duration(math.Exp(rand.Float64()*18)) * time.Microsecond // to a minute
		h.observe(d)
		all = append(all, float64(d.Microseconds())/1000)
	}
	slices.Sort(all)
	l := h.summary()
	for q, got := range map[float64]float64{0.5: l.P50, 0.9: l.P90, 0.99: l.P99, 0.999: l.P999, 1: l.Max} {
		want := all[int(math.Ceil(q*float64(len(all))))-1]
		if got < want || got > want*1.02+0.001 {
			t.Errorf("the %v quantile is %v ms, want %v", q, got, want)
		}
	}
	if l.Max != all[len(all)-1] {
		t.Errorf("the maximum is %v, want %v", l.Max, all[len(all)-1])
	}
}

func TestEveryDurationHasItsBucket(t *testing.T) {
	last := -1
	for v := uint64(0); v < 1<<maxBits; v += 1 + v/500 {
		i := bucketIndex(v)
		if i < last || i >= bucketCount || v > bucketMax(i) || i > 0 && v <= bucketMax(i-1) {
			t.Fatalf("%d is counted in bucket %d, whose maximum is %d", v, i, bucketMax(i))
		}
		last = i
	}
	h := &histogram{}
	if h.summary() != nil {
		t.Error("an empty histogram has a summary")
	}
	h.observe(-1)
	h.observe(math.MaxInt64)
	if l := h.summary(); l.P50 != 0 || l.Max != float64(1<<maxBits-1)/1000 {
		t.Errorf("latency %+v", l)
	}
}
