package admin

import (
	"sync"
	"time"
)

// A look-back has a sample for each interval of the window.
const (
	sampleInterval = 10 * time.Second
	window         = time.Minute
)

// sample is a Snapshot and when it was taken.
type sample struct {
	at time.Time
	Snapshot
}

// lookBack keeps the samples of the last minute, which rates are made of.
type lookBack struct {
	mu      sync.Mutex
	samples []sample // never empty; the oldest first
}

// newLookBack begins with the start of the daemon, when all counters were 0.
func newLookBack(began time.Time) *lookBack { return &lookBack{samples: []sample{{at: began}}} }

func (l *lookBack) add(s sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
	for len(l.samples) > 1 && s.at.Sub(l.samples[1].at) >= window {
		l.samples = l.samples[1:]
	}
}

// before returns the latest sample that is at least so old, or else the oldest.
func (l *lookBack) before(now time.Time, old time.Duration) sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.samples) - 1; i > 0; i-- {
		if now.Sub(l.samples[i].at) >= old {
			return l.samples[i]
		}
	}
	return l.samples[0]
}
