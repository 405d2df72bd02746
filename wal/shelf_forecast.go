package wal

import (
	"math"
	"time"
)

const (
	// forecastSmoothing is the time constant of each of two consecutive filters that smooth
	// a rate. Sealing, shipping and deleting make the used bytes rise and fall within about
	// a minute. One filter would report a tenth of the incoming rate as growth; two report
	// a hundredth. Half of a new rate shows after four minutes.
	forecastSmoothing = 150 * time.Second
	// forecastSettle is the time after a start in which growth does not count: what the start
	// itself allocates would look like a rate.
	forecastSettle = 30 * time.Second
	// forecastMin is how long the log is observed before there is a forecast.
	forecastMin = forecastSettle + 30*time.Second
)

// forecast predicts from the rates of the last minutes when a bound will be reached.
type forecast struct {
	began, at  time.Time
	used, free int64
	usedRate   smoothed // growth of the log, in bytes per second
	freeRate   smoothed // growth of the disk's free space, in bytes per second
}

// observe adds a measurement of the used and free bytes.
func (o *forecast) observe(now time.Time, used, free int64) {
	passed := now.Sub(o.at)
	switch {
	case o.began.IsZero():
		o.began = now
	case passed < boundsInterval/2: // too short for a rate
		return
	case now.Sub(o.began) <= forecastSettle:
	default:
		o.usedRate.add(float64(used-o.used)/passed.Seconds(), passed)
		o.freeRate.add(float64(free-o.free)/passed.Seconds(), passed)
	}
	o.at, o.used, o.free = now, used, free
}

// seconds returns the time until room more bytes are used or the disk's free space has
// shrunk by left bytes. It returns 0 if either is used up, and +Inf if no bound is in
// sight.
func (o *forecast) seconds(room, left int64) float64 {
	if room <= 0 || left <= 0 {
		return 0
	}
	if o.at.Sub(o.began) < forecastMin {
		return math.Inf(1)
	}
	until := func(bytes int64, rate float64) float64 {
		if rate < 1 { // less than a byte per second is noise
			return math.Inf(1)
		}
		return float64(bytes) / rate
	}
	return min(until(room, o.usedRate.value()), until(left, -o.freeRate.value()))
}

// smoothed is a value behind two consecutive exponential filters.
type smoothed struct{ first, second filter }

func (s *smoothed) add(v float64, passed time.Duration) {
	s.first.add(v, passed)
	s.second.add(s.first.value(), passed)
}

func (s *smoothed) value() float64 { return s.second.value() }

// filter is an exponentially weighted mean. It divides by the weight so far, so that it
// does not start at zero.
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

// untilFullLocked is the time in seconds until the log is full or, with DropOldest, begins
// to evict.
func (s *shelf) untilFullLocked() float64 {
	if s.full != nil {
		return 0
	}
	limits := s.limits.Load()
	margin := int64(0)
	if limits.WhenFull == DropOldest { // one segment more, because evicting one frees that much
		margin = s.evictionMargin() + s.sealing().size
	}
	return s.forecast.seconds(limits.MaxBytes-s.usedLocked()-margin, s.freeLocked()-limits.MinFree-margin)
}
