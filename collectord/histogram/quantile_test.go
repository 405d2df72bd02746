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
