package histogram

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestQuantilesAreWithinTheBucketOfTheTrueOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		h := New(16, 1, 12)
		values := make([]float64, 1+random.IntN(300))
		for i := range values {
			v := uint64(random.ExpFloat64() * 2000)
			h.Observe(v)
			values[i] = float64(v)
		}
		slices.Sort(values)
		d := h.Distribution()
		for _, q := range []float64{0, 0.5, 0.99, 1} {
			got, ok := d.Quantile(q)
			want := values[max(0, int(math.Ceil(q*float64(len(values))))-1)]
			lower := 0.0
			for _, bound := range d.Bounds {
				if want <= bound {
					if !ok || got < lower || got > bound {
						t.Fatalf("q %v of %d values: %v, want one in (%v, %v]", q, len(values), got, lower, bound)
					}
					break
				}
				lower = bound
			}
		}
	}
}

func TestQuantilesOfLittle(t *testing.T) {
	h := New(10, 1, 3) // up to 10, 20, 40, and beyond
	if _, ok := h.Distribution().Quantile(0.5); ok {
		t.Error("nothing was counted, and there is a quantile")
	}
	h.Observe(1 << 40)
	if v, ok := h.Distribution().Quantile(0.5); !ok || v != 40 {
		t.Errorf("beyond all bounds: %v, %t", v, ok)
	}
	if _, ok := (Distribution{}).Quantile(1); ok {
		t.Error("a Distribution of nothing has a quantile")
	}
}

func TestSinceCountsWhatCameLater(t *testing.T) {
	h := New(10, 1, 3)
	h.Observe(5)
	before := h.Distribution()
	h.Observe(15)
	h.Observe(100)
	d := h.Distribution().Since(before)
	if want := []uint64{0, 1, 0, 1}; !slices.Equal(d.Counts, want) || d.Sum != 115 {
		t.Errorf("%+v, want %v", d, want)
	}
	if all := h.Distribution().Since(Distribution{}); all.Count() != 3 {
		t.Errorf("since the beginning: %+v", all)
	}
	if none := before.Since(h.Distribution()); none.Count() != 0 || none.Sum != 0 {
		t.Errorf("counted backwards: %+v", none)
	}
}
