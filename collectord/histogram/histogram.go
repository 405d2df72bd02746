package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// maxBuckets is the maximum number of buckets, without the overflow bucket.
const maxBuckets = 20

// Histogram counts values in buckets with exponentially growing bounds. Its methods are
// safe for concurrent use and take no lock. Observe costs a division and two atomic
// additions.
type Histogram struct {
	firstBound uint64 // upper bound of the first bucket, inclusive
	logRatio   int    // log2 of the ratio of consecutive bounds: 1 or more
	buckets    int
	counts     [maxBuckets + 1]atomic.Uint64
	sum        atomic.Uint64
}

// New returns a Histogram. The first bucket contains values up to firstBound, and each
// further bound is 2^logRatio times the one before. The number of buckets is limited to
// 20.
func New(firstBound uint64, logRatio, buckets int) *Histogram {
	return &Histogram{firstBound: max(firstBound, 1), logRatio: max(logRatio, 1), buckets: min(buckets, maxBuckets)}
}

// NewLatency returns a Histogram for ObserveTime, with bounds from 100 µs to 52 s.
func NewLatency() *Histogram {
	return New(uint64(100*time.Microsecond), 1, maxBuckets)
}

// Observe counts one value.
func (h *Histogram) Observe(v uint64) {
	i := 0
	if v > h.firstBound {
		i = min((bits.Len64((v-1)/h.firstBound)+h.logRatio-1)/h.logRatio, h.buckets)
	}
	h.counts[i].Add(1)
	h.sum.Add(v)
}

// ObserveTime counts a duration, as nanoseconds. A negative duration counts as 0.
func (h *Histogram) ObserveTime(d time.Duration) { h.Observe(uint64(max(d, 0))) }

// Distribution is a copy of the counts of a Histogram.
type Distribution struct {
	Bounds []float64 // upper bounds of the buckets, inclusive, ascending
	Counts []uint64  // per bucket; the last element counts values above all bounds
	Sum    float64   // of all values
}

// Distribution returns a copy of the counts.
func (h *Histogram) Distribution() Distribution {
	d := Distribution{Bounds: make([]float64, h.buckets), Counts: make([]uint64, h.buckets+1)}
	for i := range d.Counts {
		if i < h.buckets {
			d.Bounds[i] = float64(h.firstBound << (i * h.logRatio))
		}
		d.Counts[i] = h.counts[i].Load()
	}
	d.Sum = float64(h.sum.Load())
	return d
}

// Seconds returns a copy of the counts of ObserveTime, with bounds and sum in seconds.
func (h *Histogram) Seconds() Distribution {
	d := h.Distribution()
	for i := range d.Bounds {
		d.Bounds[i] /= float64(time.Second)
	}
	d.Sum /= float64(time.Second)
	return d
}

// Count returns the number of values.
func (d Distribution) Count() (n uint64) {
	for _, c := range d.Counts {
		n += c
	}
	return n
}

// Since returns the values that were counted since earlier, an older copy of the same
// distribution. It returns d itself if earlier has no counts of the same buckets.
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

// Quantile estimates the value below which the fraction q of all values lies. It
// assumes that values are spread evenly within a bucket. If the quantile is above all
// bounds, the result is the last bound. ok is false if there are no values.
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
