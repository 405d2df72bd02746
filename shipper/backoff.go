package shipper

import (
	"math/rand/v2"
	"time"
)

// backoff spaces attempts after failures. Each delay is random between 0 and a bound that
// doubles ("full jitter"), so that a fleet whose storage failed does not retry in step.
type backoff struct {
	bound time.Duration // of the last delay; 0 after a success
	until time.Time     // no attempt is made before this time
}

// addFailure records a failure at now. The bound starts at minDelay and doubles up to
// maxDelay. The random delay is added to requested, the delay that the storage asks for,
// since the storage asks all clients for the same delay.
func (b *backoff) addFailure(now time.Time, minDelay, maxDelay, requested time.Duration) {
	b.bound = min(max(2*b.bound, minDelay), maxDelay)
	b.until = now.Add(requested + rand.N(b.bound))
}

// isWaiting reports whether the next attempt must still wait.
func (b *backoff) isWaiting(now time.Time) bool { return now.Before(b.until) }
