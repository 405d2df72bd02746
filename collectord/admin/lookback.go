package admin

import (
	"sync"
	"time"
)

// A lookBack contains one sample per sampleInterval of the window.
const (
	sampleInterval = 10 * time.Second
	window         = time.Minute
)

// sample is a Snapshot with its time.
type sample struct {
	at time.Time
	Snapshot
}

// lookBack contains the samples of the last minute, from which rates are computed.
type lookBack struct {
	mu      sync.Mutex
	samples []sample // never empty; the oldest first
}

// newLookBack returns a lookBack with one empty sample. All counters were 0 when the
// daemon started (began).
func newLookBack(began time.Time) *lookBack { return &lookBack{samples: []sample{{at: began}}} }

func (l *lookBack) add(s sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
	for len(l.samples) > 1 && s.at.Sub(l.samples[1].at) >= window {
		l.samples = l.samples[1:]
	}
}

// before returns the latest sample that is at least minAge old, or the oldest one if none
// is that old.
func (l *lookBack) before(now time.Time, minAge time.Duration) sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.samples) - 1; i > 0; i-- {
		if now.Sub(l.samples[i].at) >= minAge {
			return l.samples[i]
		}
	}
	return l.samples[0]
}
