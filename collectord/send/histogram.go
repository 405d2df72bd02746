package send

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts times to within 1 %: its buckets are 64 to each doubling, as
// those of HdrHistogram are, where those of histogram.Histogram, made for export, are
// one. Its methods may be called concurrently.
type histogram struct {
	counts [buckets]atomic.Int64
	sum    atomic.Int64 // µs
	max    atomic.Int64 // µs
}

const (
	subBits = 6  // log2 of the buckets to a doubling
	maxBits = 32 // of a time in µs: 71 minutes
	buckets = (maxBits - subBits + 1) << subBits
)

// Latency is milliseconds that answers took.
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
	h.counts[bucket(uint64(us))].Add(1)
	h.sum.Add(us)
	for {
		longest := h.max.Load()
		if us <= longest || h.max.CompareAndSwap(longest, us) {
			return
		}
	}
}

// bucket is where a value is counted: by itself below 1<<subBits, and else by its
// highest bit and the subBits that follow.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// bound is the highest value of a bucket.
func bound(i int) uint64 {
	shift := max(i>>subBits-1, 0)
	return uint64(i-shift<<subBits+1)<<shift - 1
}

// quantile returns milliseconds.
func (h *histogram) quantile(q float64, n int64) float64 {
	rank := int64(math.Ceil(q * float64(n)))
	for i := range h.counts {
		if rank -= h.counts[i].Load(); rank <= 0 {
			return float64(min(int64(bound(i)), h.max.Load())) / 1000
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
