package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// maxBuckets is the most buckets a Histogram has, beside the one for the rest.
const maxBuckets = 20

// Histogram counts values in buckets, each of which reaches two or four times as
// far as the one before. Its methods may be called concurrently and take no lock:
// a value costs a division and two additions.
type Histogram struct {
	first   uint64 // upper bound of the first bucket, inclusive
	doubled int    // how often a bound is doubled to give the next: 1 or 2
	buckets int
	counts  [maxBuckets + 1]atomic.Uint64
	sum     atomic.Uint64
}

// New makes one whose first bucket reaches up to first, and each
// following one 2^doubled times as far. There are at most 20 buckets.
func New(first uint64, doubled, buckets int) *Histogram {
	return &Histogram{first: max(first, 1), doubled: max(doubled, 1), buckets: min(buckets, maxBuckets)}
}

// NewLatency makes one for ObserveTime, from 100 µs to 52 s.
func NewLatency() *Histogram {
	return New(uint64(100*time.Microsecond), 1, maxBuckets)
}

// Observe counts one value.
func (h *Histogram) Observe(v uint64) {
	i := 0
	if v > h.first {
		i = min((bits.Len64((v-1)/h.first)+h.doubled-1)/h.doubled, h.buckets)
	}
	h.counts[i].Add(1)
	h.sum.Add(v)
}

// ObserveTime counts how long something took.
func (h *Histogram) ObserveTime(d time.Duration) { h.Observe(uint64(max(d, 0))) }

// Distribution is what a Histogram has counted so far.
type Distribution struct {
	Bounds []float64 // upper bounds of the buckets, inclusive, rising
	Counts []uint64  // by bucket, and last what is beyond all bounds
	Sum    float64   // of all values
}

// Distribution returns a copy.
func (h *Histogram) Distribution() Distribution {
	d := Distribution{Bounds: make([]float64, h.buckets), Counts: make([]uint64, h.buckets+1)}
	for i := range d.Counts {
		if i < h.buckets {
			d.Bounds[i] = float64(h.first << (i * h.doubled))
		}
		d.Counts[i] = h.counts[i].Load()
	}
	d.Sum = float64(h.sum.Load())
	return d
}

// Seconds returns a copy of what ObserveTime counted.
func (h *Histogram) Seconds() Distribution {
	d := h.Distribution()
	for i := range d.Bounds {
		d.Bounds[i] /= float64(time.Second)
	}
	d.Sum /= float64(time.Second)
	return d
}

// Count is the number of values.
func (d Distribution) Count() (n uint64) {
	for _, c := range d.Counts {
		n += c
	}
	return n
}

// Since returns what was counted after an earlier copy was made; all of it if that is none.
func (d Distribution) Since(earlier Distribution) Distribution {
	if len(earlier.Counts) != len(d.Counts) {
		return d
	}
	later := Distribution{Bounds: d.Bounds, Counts: make([]uint64, len(d.Counts)), Sum: d.Sum - earlier.Sum}
	for i, n := range d.Counts {
		later.Counts[i] = n - earlier.Counts[i]
	}
	return later
}

// Quantile returns the value below which a part q of the values is, taken to be spread
// evenly in their buckets; false if there are none. Beyond all bounds it is the last.
func (d Distribution) Quantile(q float64) (value float64, ok bool) {
	total := d.Count()
	if total == 0 {
		return 0, false
	}
	rank, below, lower := q*float64(total), 0.0, 0.0
	for i, bound := range d.Bounds {
		n := float64(d.Counts[i])
		if n > 0 && below+n >= rank {
			return lower + (bound-lower)*max(0, rank-below)/n, true
		}
		below, lower = below+n, bound
	}
	return lower, true
}
