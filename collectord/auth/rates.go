package auth

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Rates limits usages per second: all clients in total, and each token that has its own
// limit. The zero value limits nothing.
//
// A check without a limit takes no lock.
type Rates struct {
	overall atomic.Pointer[bucket]
	tokens  atomic.Pointer[map[string]*bucket] // by name of the token's client

	mu sync.Mutex // serializes changes of limits
}

// Take consumes n usages from the limits of a token (empty: none) and of all clients.
// If a limit does not allow them, Take consumes nothing and returns when to retry.
func (r *Rates) Take(token string, n int, now time.Time) (ok bool, retryAfter time.Duration) {
	var own *bucket
	if tokens := r.tokens.Load(); tokens != nil && token != "" {
		own = (*tokens)[token]
	}
	if ok, retryAfter = own.take(n, now); !ok {
		return false, retryAfter
	}
	if ok, retryAfter = r.overall.Load().take(n, now); !ok {
		own.refund(n) // nothing was accepted
	}
	return ok, retryAfter
}

// SetOverall sets the limit of all clients in total, in usages per second; 0 means no
// limit. A burst of 0 means one second at that rate, and at least one usage.
func (r *Rates) SetOverall(rate float64, burst int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.overall.Store(r.overall.Load().withLimits(rate, burst, now))
}

// SetTokens replaces the limits of all tokens. A token whose name stays keeps its
// current fill level.
func (r *Rates) SetTokens(rate map[string]float64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var before map[string]*bucket
	if tokens := r.tokens.Load(); tokens != nil {
		before = *tokens
	}
	next := map[string]*bucket{}
	for name, perSecond := range rate {
		if b := before[name].withLimits(perSecond, 0, now); b != nil {
			next[name] = b
		}
	}
	r.tokens.Store(&next)
}

// bucket is a token bucket, filled at a constant rate up to burst. A nil bucket limits
// nothing.
//
// A batch larger than the burst is accepted when the bucket is full, because a client
// can't be asked to split it. The batch leaves a debt, which must be refilled before
// anything else is accepted, so that the average rate holds.
type bucket struct {
	mu       sync.Mutex // guards the fields below
	rate     float64    // usages per second
	burst    float64
	fill     float64 // as of filledAt; a negative value is a debt
	filledAt time.Time
}

// withLimits returns the bucket for new limits, or nil if rate is not positive. It
// modifies and returns b if b is not nil.
func (b *bucket) withLimits(rate float64, burst int, now time.Time) *bucket {
	if rate <= 0 {
		return nil
	}
	maxFill := float64(burst)
	if burst == 0 {
		maxFill = max(1, rate)
	}
	if b == nil {
		return &bucket{rate: rate, burst: maxFill, fill: maxFill, filledAt: now}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refillLocked(now)
	b.rate, b.burst, b.fill = rate, maxFill, min(b.fill, maxFill)
	return b
}

func (b *bucket) refillLocked(now time.Time) {
	if elapsed := now.Sub(b.filledAt); elapsed > 0 { // a concurrent call may have passed a later now
		b.fill = min(b.burst, b.fill+b.rate*elapsed.Seconds())
		b.filledAt = now
	}
}

func (b *bucket) take(n int, now time.Time) (ok bool, retryAfter time.Duration) {
	if b == nil {
		return true, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refillLocked(now)
	// Tolerate rounding errors: slightly below the burst counts as full.
	if missing := min(float64(n), b.burst) - b.fill; missing > 1e-6 {
		seconds := min(missing/b.rate, math.MaxInt32)
		return false, time.Duration(seconds * float64(time.Second))
	}
	b.fill -= float64(n)
	return true, 0
}

func (b *bucket) refund(n int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill = min(b.burst, b.fill+float64(n))
}
