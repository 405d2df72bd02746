package admin

import (
	"math"
	"sync"
	"time"

	"collectord/collectord/histogram"
)

// How much of the past the status page shows.
const (
	sampleInterval = 10 * time.Second
	sampleCount    = 360 // an hour
)

// sample is what happened in one interval. What is not known is NaN.
type sample struct {
	accepted, refused float64 // usages a second; refused: rejected or dropped
	p50, p99          float64 // of the commits, in seconds
	backlog           float64 // usages that the storage has not confirmed, at the end
	objects           float64 // confirmed
}

// reading is what a sample is the difference of.
type reading struct {
	at                time.Time
	accepted, refused uint64
	commits           histogram.Distribution
	objects           uint64
}

// history is a ring of the samples of the last hour. Its memory is fixed.
type history struct {
	mu      sync.Mutex // guards all below
	ring    [sampleCount]sample
	next    int // index of the oldest sample, which the next one replaces
	before  reading
	started bool // there is a reading before
}

func newHistory() *history {
	h := &history{}
	for i := range h.ring {
		h.ring[i] = unknown()
	}
	return h
}

func unknown() sample {
	nan := math.NaN()
	return sample{nan, nan, nan, nan, nan, nan}
}

// add takes the sample of the time since the one before. Those that are missing, since
// the process was stopped or the machine too busy, are unknown.
func (h *history) add(now time.Time, s *Snapshot) {
	r := newReading(now, s)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.started {
		h.before, h.started = r, true
		return
	}
	elapsed := now.Sub(h.before.at)
	if elapsed < sampleInterval/2 {
		return
	}
	for range min(sampleCount, int(elapsed.Round(sampleInterval)/sampleInterval)-1) {
		h.pushLocked(unknown())
	}
	h.pushLocked(newSample(&h.before, &r, elapsed.Seconds(), float64(s.Ledger.Pending)))
	h.before = r
}

func (h *history) pushLocked(s sample) {
	h.ring[h.next] = s
	h.next = (h.next + 1) % sampleCount
}

// samples returns a copy, the oldest first.
func (h *history) samples() []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(append(make([]sample, 0, sampleCount), h.ring[h.next:]...), h.ring[:h.next]...)
}

func newReading(now time.Time, s *Snapshot) reading {
	r := reading{at: now, commits: s.Log.CommitSeconds, objects: s.Shipper.Objects}
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

func newSample(before, now *reading, seconds, backlog float64) sample {
	s := unknown()
	s.accepted, s.refused = float64(now.accepted-before.accepted)/seconds, float64(now.refused-before.refused)/seconds
	s.objects = float64(now.objects - before.objects)
	s.backlog = backlog
	commits := now.commits.Since(before.commits)
	if p50, ok := commits.Quantile(0.5); ok {
		s.p50 = p50
		s.p99, _ = commits.Quantile(0.99)
	}
	return s
}

// run samples until done is closed.
func (h *history) run(snapshot func() (Snapshot, bool), done <-chan struct{}) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		if s, ok := snapshot(); ok {
			h.add(time.Now(), &s)
		}
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}
