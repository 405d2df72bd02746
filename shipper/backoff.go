package shipper

import (
	"math/rand/v2"
	"time"
)

// backoff spaces attempts after failures. Each delay is drawn at random between
// nothing and a bound that doubles ("full jitter"), so that a fleet that lost
// its storage at one moment does not come back to it at one moment.
type backoff struct {
	bound time.Duration // of the last delay; 0 while all is well
	until time.Time     // no attempt before
}

// failed notes a failure. The bound grows from least to most. After what the
// storage asked for, if anything, a delay of that kind comes on top, since it
// asked everybody for the same.
func (b *backoff) failed(now time.Time, least, most, asked time.Duration) {
	b.bound = min(max(2*b.bound, least), most)
	b.until = now.Add(asked + rand.N(b.bound))
}

// waits reports whether it is too early for an attempt.
func (b *backoff) waits(now time.Time) bool { return now.Before(b.until) }
