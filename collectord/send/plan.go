package send

import (
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// overrun is how much longer than its duration a run with a rate may take, so that it can
// send delayed requests.
const overrun = time.Second

// schedule spreads batches (requests or datagrams) over time. Each due time is computed
// from the batch's number, so that errors do not accumulate.
type schedule struct {
	rate      float64 // usages per second; 0: no pacing
	batchSize int64
}

// due returns when batch k is due, relative to the start.
func (s schedule) due(k int64) time.Duration {
	if s.rate == 0 {
		return 0
	}
	return time.Duration(float64(k*s.batchSize) * 1e9 / s.rate)
}

// countDueBefore returns how many batches are due less than t after the start.
func (s schedule) countDueBefore(t time.Duration) int64 {
	if s.rate == 0 || t <= 0 {
		return 0
	}
	k := int64(float64(t) * s.rate / 1e9 / float64(s.batchSize))
	for ; s.due(k) < t; k++ {
	}
	for ; k > 0 && s.due(k-1) >= t; k-- {
	}
	return k
}

// plan is the work of a run, and its progress.
type plan struct {
	schedule
	usages      int64 // total; math.MaxInt64: unlimited
	batches     int64
	maxDuration time.Duration // 0: unlimited
	start       time.Time
	next        atomic.Int64
}

func newPlan(o Options) *plan {
	p := &plan{schedule: schedule{o.Rate, int64(o.Batch)}, usages: math.MaxInt64, maxDuration: o.Duration}
	if o.Count > 0 {
		p.usages = o.Count
	}
	if o.Rate > 0 && o.Duration > 0 {
		p.usages = min(p.usages, schedule{o.Rate, 1}.countDueBefore(o.Duration))
		p.maxDuration += overrun
	}
	p.batches = p.usages / p.batchSize
	if p.usages%p.batchSize > 0 {
		p.batches++
	}
	return p
}

// claim claims up to limit batches that are due, from batch number from. If none is due,
// it returns n = 0 and the time until the next one. n = 0 and wait = 0 mean that the run
// is over.
func (p *plan) claim(limit int64) (from, n int64, wait time.Duration) {
	elapsed := time.Since(p.start)
	if p.maxDuration > 0 && elapsed >= p.maxDuration {
		return 0, 0, 0
	}
	for {
		next := p.next.Load()
		end := min(p.batches, next+limit)
		if next >= p.batches {
			return 0, 0, 0
		}
		if p.rate > 0 {
			end = min(end, p.countDueBefore(elapsed+1))
			if end <= next {
				return 0, 0, p.due(next) - elapsed
			}
		}
		if p.next.CompareAndSwap(next, end) {
			return next, end - next, 0
		}
	}
}

// size returns the number of usages in batch k.
func (p *plan) size(k int64) int64 { return min(p.batchSize, p.usages-k*p.batchSize) }

// progress returns the progress of the run, in usages or in milliseconds.
func (p *plan) progress() (done, total int64) {
	if p.usages < math.MaxInt64 {
		return min(p.next.Load()*p.batchSize, p.usages), p.usages
	}
	return min(time.Since(p.start), p.maxDuration).Milliseconds(), p.maxDuration.Milliseconds()
}

// shortSleep sleeps for d, but at most 50 ms so that it notices the end of a run. The runtime's
// timers round up to a millisecond in an idle process; nanosleep wakes within about 50 µs.
func shortSleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(min(d, 50*time.Millisecond)))
	_ = unix.Nanosleep(&t, nil) // a signal may interrupt the sleep
}
