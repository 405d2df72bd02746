package shipper

import (
	"math/rand/v2"
	"time"
)

// backoff spaces attempts after failures. Each delay is random between 0 and a bound that
// doubles ("full jitter"), so that a fleet whose storage failed does not retry in step.
type backoff struct {
	bound time.Duration // of the last delay; 0 after a success
	until time.Time     // no attempt before
}

// failed records a failure at now. The bound starts at least and doubles up to most. The
// random delay is added to asked, the delay that the storage requested, since the storage
// requests the same delay from all clients.
func (b *backoff) failed(now time.Time, least, most, asked time.Duration) {
	b.bound = min(max(2*b.bound, least), most)
	b.until = now.Add(asked + rand.N(b.bound))
}

// waits reports whether the next attempt must still wait.
func (b *backoff) waits(now time.Time) bool { return now.Before(b.until) }
