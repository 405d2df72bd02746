package shipper

import "time"

// clockComparison records how far this host's clock was ahead of the storage's.
type clockComparison struct {
	ahead time.Duration
	at    time.Time // with its monotonic reading
}

// isOutdated reports whether the clock was set, or the host suspended, since the
// comparison.
func (c *clockComparison) isOutdated(now time.Time) bool {
	return haveDiverged(now.Round(0).Sub(c.at.Round(0)), now.Sub(c.at))
}

// haveDiverged reports whether the wall clock and the monotonic clock differ by more than 5 s
// over the same interval.
func haveDiverged(wall, monotonic time.Duration) bool {
	return (wall - monotonic).Abs() > 5*time.Second
}
