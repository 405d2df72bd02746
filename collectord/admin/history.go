package admin

import (
	"math"
	"sync"
	"time"

	"collectord/collectord/histogram"
)

// intervals is the capacity of a history: one hour.
const intervals = int(time.Hour / sampleInterval)

// interval contains the figures between two samples. An unknown figure is NaN.
type interval struct {
	accepted, refused float64 // usages per second; refused means rejected or dropped
	p50, p99          float64 // of the commit latency, in seconds
	backlog           float64 // usages that the storage has not confirmed, at the end of the interval
	objects           float64 // number of objects that the storage confirmed
}

// reading contains the counters of one sample. An interval is the difference of two.
type reading struct {
	at                time.Time
	accepted, refused uint64
	commits           histogram.Distribution
	objects           uint64
}

// history is a ring buffer of the intervals of the last hour. Its memory is constant.
type history struct {
	mu     sync.Mutex // guards the fields below
	ring   [intervals]interval
	next   int // index of the oldest interval, which is overwritten next
	before reading
}

// newHistory returns an empty history. All counters were 0 when the daemon started
// (began).
func newHistory(began time.Time) *history {
	h := &history{before: reading{at: began}}
	for i := range h.ring {
		h.ring[i] = unknown()
	}
	return h
}

func unknown() interval {
	nan := math.NaN()
	return interval{nan, nan, nan, nan, nan, nan}
}

// add appends the interval since the previous sample. Intervals without a sample are
// unknown: the process was stopped, or the machine was overloaded.
func (h *history) add(now sample) {
	r := newReading(now)
	h.mu.Lock()
	defer h.mu.Unlock()
	elapsed := now.at.Sub(h.before.at)
	if elapsed < sampleInterval/2 {
		return
	}
	for range min(intervals, int(elapsed.Round(sampleInterval)/sampleInterval)-1) {
		h.pushLocked(unknown())
	}
	h.pushLocked(newInterval(&h.before, &r, elapsed.Seconds(), float64(now.Ledger.Pending)))
	h.before = r
}

func (h *history) pushLocked(i interval) {
	h.ring[h.next] = i
	h.next = (h.next + 1) % intervals
}

// hour returns a copy of the intervals, the oldest first.
func (h *history) hour() []interval {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(append(make([]interval, 0, intervals), h.ring[h.next:]...), h.ring[:h.next]...)
}

func newReading(s sample) reading {
	r := reading{at: s.at, commits: s.Log.CommitSeconds, objects: s.Shipper.Objects}
	for _, d := range s.Ledger.BySource {
		r.accepted += d.Accepted
		for _, refused := range []map[string]uint64{d.Rejected, d.Dropped} {
			for _, n := range refused {
				r.refused += n
			}
		}
	}
	return r
}

func newInterval(before, now *reading, seconds, backlog float64) interval {
	i := unknown()
	i.accepted, i.refused = float64(now.accepted-before.accepted)/seconds, float64(now.refused-before.refused)/seconds
	i.objects = float64(now.objects - before.objects)
	i.backlog = backlog
	commits := now.commits.Since(before.commits)
	if p50, ok := commits.Quantile(0.5); ok {
		i.p50 = p50
		i.p99, _ = commits.Quantile(0.99)
	}
	return i
}
