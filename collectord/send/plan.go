package send

import (
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// overrun is how much longer than its duration a run with a rate may take, to send what
// is late.
const overrun = time.Second

// schedule spreads batches (requests or datagrams) over time. Each time is computed from
// the batch's number, so that no error adds up.
type schedule struct {
	rate      float64 // usages a second; 0: at once
	batchSize int64
}

// due is when batch k is, after the start.
func (s schedule) due(k int64) time.Duration {
	if s.rate == 0 {
		return 0
	}
	return time.Duration(float64(k*s.batchSize) * 1e9 / s.rate)
}

// before is how many batches are due before t after the start.
func (s schedule) before(t time.Duration) int64 {
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

// plan is what a run is to send, and how far it is.
type plan struct {
	schedule
	usages  int64 // in all; math.MaxInt64 without a limit
	batches int64
	lasts   time.Duration // 0: without a limit
	start   time.Time
	next    atomic.Int64
}

func newPlan(o Options) *plan {
	p := &plan{schedule: schedule{o.Rate, int64(o.Batch)}, usages: math.MaxInt64, lasts: o.Duration}
	if o.Count > 0 {
		p.usages = o.Count
	}
	if o.Rate > 0 && o.Duration > 0 {
		p.usages = min(p.usages, schedule{o.Rate, 1}.before(o.Duration))
		p.lasts += overrun
	}
	p.batches = p.usages / p.batchSize
	if p.usages%p.batchSize > 0 {
		p.batches++
	}
	return p
}

// claim takes up to limit batches that are due, or returns how long it is until one
// is due. Without either, none is left or the time is over.
func (p *plan) claim(limit int64) (from, n int64, wait time.Duration) {
	elapsed := time.Since(p.start)
	if p.lasts > 0 && elapsed >= p.lasts {
		return 0, 0, 0
	}
	for {
		next := p.next.Load()
		end := min(p.batches, next+limit)
		if next >= p.batches {
			return 0, 0, 0
		}
		if p.rate > 0 {
			end = min(end, p.before(elapsed+1))
			if end <= next {
				return 0, 0, p.due(next) - elapsed
			}
		}
		if p.next.CompareAndSwap(next, end) {
			return next, end - next, 0
		}
	}
}

// size is how many usages batch k holds.
func (p *plan) size(k int64) int64 { return min(p.batchSize, p.usages-k*p.batchSize) }

// progress is how far the run is.
func (p *plan) progress() (done, total int64) {
	if p.usages < math.MaxInt64 {
		return min(p.next.Load()*p.batchSize, p.usages), p.usages
	}
	return min(time.Since(p.start), p.lasts).Milliseconds(), p.lasts.Milliseconds()
}

// nap sleeps for d, but not so long that the end of a run would go unnoticed. The
// runtime's timers round up to a millisecond while a process has nothing to do;
// this wakes within about 50 µs.
func nap(d time.Duration) {
	t := unix.NsecToTimespec(int64(min(d, 50*time.Millisecond)))
	_ = unix.Nanosleep(&t, nil) // a signal may wake it early
}
