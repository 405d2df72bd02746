package auth

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Rates are the limits in usages a second: one of all clients together, and one
// for each token that has a limit of its own. The zero value limits nothing.
//
// What is not limited costs a load and no lock.
type Rates struct {
	overall atomic.Pointer[bucket]
	tokens  atomic.Pointer[map[string]*bucket] // by name of the token

	mu sync.Mutex // of those who change limits
}

// Take takes n usages of a token, or of no token in particular (""), or returns
// after how long it makes sense to ask again.
func (r *Rates) Take(token string, n int, now time.Time) (ok bool, retryAfter time.Duration) {
	var own *bucket
	if tokens := r.tokens.Load(); tokens != nil && token != "" {
		own = (*tokens)[token]
	}
	if ok, retryAfter = own.take(n, now); !ok {
		return false, retryAfter
	}
	if ok, retryAfter = r.overall.Load().take(n, now); !ok {
		own.giveBack(n) // it has had nothing for it
	}
	return ok, retryAfter
}

// SetOverall limits all clients together; a rate of 0 does not limit them. A
// burst of 0 stands for what the rate gives in a second.
func (r *Rates) SetOverall(rate float64, burst int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.overall.Store(r.overall.Load().changed(rate, burst, now))
}

// SetTokens replaces the limits of all tokens. Those whose name was there before
// keep what they have used up.
func (r *Rates) SetTokens(rate map[string]float64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var before map[string]*bucket
	if tokens := r.tokens.Load(); tokens != nil {
		before = *tokens
	}
	next := map[string]*bucket{}
	for name, perSecond := range rate {
		if b := before[name].changed(perSecond, 0, now); b != nil {
			next[name] = b
		}
	}
	r.tokens.Store(&next)
}

// bucket holds what may be taken at once, and is filled at a rate. A nil one
// limits nothing.
//
// A batch that is larger than the burst is taken when the bucket is full, and
// leaves a debt that is paid off before anything else is taken: it can't be told
// to come in parts, and the rate holds all the same.
type bucket struct {
	mu     sync.Mutex // guards what follows
	rate   float64    // usages a second
	burst  float64
	filled float64 // as of at; below 0 it is a debt
	at     time.Time
}

// changed is the bucket for new limits: the same one, or nil for none.
func (b *bucket) changed(rate float64, burst int, now time.Time) *bucket {
	if rate <= 0 {
		return nil
	}
	most := float64(burst)
	if burst == 0 {
		most = max(1, rate)
	}
	if b == nil {
		return &bucket{rate: rate, burst: most, filled: most, at: now}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fillLocked(now)
	b.rate, b.burst, b.filled = rate, most, min(b.filled, most)
	return b
}

func (b *bucket) fillLocked(now time.Time) {
	if elapsed := now.Sub(b.at); elapsed > 0 { // another may have come first with a later now
		b.filled = min(b.burst, b.filled+b.rate*elapsed.Seconds())
		b.at = now
	}
}

func (b *bucket) take(n int, now time.Time) (ok bool, retryAfter time.Duration) {
	if b == nil {
		return true, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fillLocked(now)
	// Filled by rounding just below the burst counts as full.
	if missing := min(float64(n), b.burst) - b.filled; missing > 1e-6 {
		seconds := min(missing/b.rate, math.MaxInt32)
		return false, time.Duration(seconds * float64(time.Second))
	}
	b.filled -= float64(n)
	return true, 0
}

func (b *bucket) giveBack(n int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.filled = min(b.burst, b.filled+float64(n))
}
