package shipper

import "time"

// clockComparison is how far this host's clock was ahead of the storage's.
type clockComparison struct {
	ahead time.Duration
	at    time.Time // with its monotonic reading
}

// isOutdated reports whether the clock was set since, or the host was suspended.
func (c *clockComparison) isOutdated(now time.Time) bool {
	return areApart(now.Round(0).Sub(c.at.Round(0)), now.Sub(c.at))
}

// areApart reports whether the clock was set while so much passed on it, and on the
// monotonic one.
func areApart(wall, monotonic time.Duration) bool { return (wall - monotonic).Abs() > 5*time.Second }
