package send

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations to within 2 %. Like HdrHistogram it has many buckets per
// power of two: 64. The exported histogram.Histogram has only one. The methods may be
// called concurrently.
type histogram struct {
	counts [bucketCount]atomic.Int64
	sum    atomic.Int64 // µs
	max    atomic.Int64 // µs
}

const (
	subBits     = 6  // log2 of the buckets per power of two
	maxBits     = 32 // bits of a duration in µs: 71 minutes
	bucketCount = (maxBits - subBits + 1) << subBits
)

// Latency is the distribution of response times, in milliseconds.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

func (h *histogram) observe(d time.Duration) {
	us := min(max(d.Microseconds(), 0), 1<<maxBits-1)
	h.counts[bucketIndex(uint64(us))].Add(1)
	h.sum.Add(us)
	for {
		longest := h.max.Load()
		if us <= longest || h.max.CompareAndSwap(longest, us) {
			return
		}
	}
}

// bucketIndex returns the index of the bucket of v. A value below 1<<subBits has its own
// bucket; a larger value is indexed by its highest bit and the subBits after it.
func bucketIndex(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// bucketMax returns the highest value of a bucket.
func bucketMax(i int) uint64 {
	shift := max(i>>subBits-1, 0)
	return uint64(i-shift<<subBits+1)<<shift - 1
}

// quantile returns the q-quantile of n durations, in milliseconds.
func (h *histogram) quantile(q float64, n int64) float64 {
	rank := int64(math.Ceil(q * float64(n)))
	for i := range h.counts {
		if rank -= h.counts[i].Load(); rank <= 0 {
			return float64(min(int64(bucketMax(i)), h.max.Load())) / 1000
		}
	}
	return float64(h.max.Load()) / 1000
}

func (h *histogram) summary() *Latency {
	n := int64(0)
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	if n == 0 {
		return nil
	}
	return &Latency{
		Mean: float64(h.sum.Load()) / float64(n) / 1000,
		P50:  h.quantile(0.5, n), P90: h.quantile(0.9, n), P99: h.quantile(0.99, n), P999: h.quantile(0.999, n),
		Max: float64(h.max.Load()) / 1000,
	}
}
