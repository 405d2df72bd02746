package wal

import (
	"math"
	"time"
)

const (
	// forecastSmoothing is the time constant of each of the two filters a rate goes
	// through. Sealing, shipping and deleting make what is used go up and down
	// within a minute or so: one filter alone would take that for growth (by a
	// tenth of the rate usages come in with), two leave a hundredth of it. A new
	// rate shows by half after four minutes.
	forecastSmoothing = 150 * time.Second
	// forecastMin is how long is watched before anything is said.
	forecastMin = 30 * time.Second
)

// forecast tells from the past when a bound will be reached.
type forecast struct {
	began, at  time.Time
	used, free int64
	usedRate   smoothed // bytes a second by which the log grows
	freeRate   smoothed // bytes a second by which the disk's free room grows
}

// look takes in what is used and free now.
func (o *forecast) look(now time.Time, used, free int64) {
	passed := now.Sub(o.at)
	switch {
	case o.began.IsZero():
		o.began = now
	case passed < boundsInterval/2: // too short for a rate
		return
	default:
		o.usedRate.add(float64(used-o.used)/passed.Seconds(), passed)
		o.freeRate.add(float64(free-o.free)/passed.Seconds(), passed)
	}
	o.at, o.used, o.free = now, used, free
}

// seconds until room bytes more are used, or the disk has left bytes less.
func (o *forecast) seconds(room, left int64) float64 {
	if room <= 0 || left <= 0 {
		return 0
	}
	if o.at.Sub(o.began) < forecastMin {
		return math.Inf(1)
	}
	until := func(bytes int64, rate float64) float64 {
		if rate < 1 { // less than a byte a second is noise
			return math.Inf(1)
		}
		return float64(bytes) / rate
	}
	return min(until(room, o.usedRate.value()), until(left, -o.freeRate.value()))
}

// smoothed is a value behind two exponential filters in a row.
type smoothed struct{ first, second filter }

func (s *smoothed) add(v float64, passed time.Duration) {
	s.first.add(v, passed)
	s.second.add(s.first.value(), passed)
}

func (s *smoothed) value() float64 { return s.second.value() }

// filter is an exponentially weighted mean. It knows how much of its weight it
// has seen, so that it does not begin at zero.
type filter struct{ sum, weight float64 }

func (f *filter) add(v float64, passed time.Duration) {
	share := 1 - math.Exp(-passed.Seconds()/forecastSmoothing.Seconds())
	f.sum += share * (v - f.sum)
	f.weight += share * (1 - f.weight)
}

func (f *filter) value() float64 {
	if f.weight == 0 {
		return 0
	}
	return f.sum / f.weight
}

// untilFullLocked is the time in seconds after which the log will be full, or,
// if it drops the oldest, will do so.
func (s *shelf) untilFullLocked() float64 {
	if s.full != nil {
		return 0
	}
	limits := s.limits.Load()
	ahead := int64(0)
	if limits.WhenFull == DropOldest { // a segment more, since evicting one makes that much room
		ahead = s.roomAhead() + s.sealing().size
	}
	return s.forecast.seconds(limits.MaxBytes-s.usedLocked()-ahead, s.freeLocked()-limits.MinFree-ahead)
}
