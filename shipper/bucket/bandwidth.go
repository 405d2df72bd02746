package bucket

import (
	"context"
	"io"
	"sync"
	"time"
)

// Bandwidth limits the bytes a second of all transfers that share it. Unused bandwidth
// does not accumulate during a pause.
type Bandwidth struct {
	mu     sync.Mutex // guards the fields below
	rate   int64      // bytes a second; 0: no limit
	freeAt time.Time  // when the bytes so far are within the limit again
}

// Set changes the limit to rate bytes a second; 0: no limit.
func (b *Bandwidth) Set(rate int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate = rate; rate == 0 {
		b.freeAt = time.Time{}
	}
}

// maxReadBytes is the max number of bytes to read at once. It keeps each wait short, also
// after the rate was changed.
func (b *Bandwidth) maxReadBytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == 0 {
		return 1 << 62
	}
	return max(256, b.rate/16)
}

// wait waits until n bytes may be sent.
func (b *Bandwidth) wait(ctx context.Context, n int) error {
	b.mu.Lock()
	var wait time.Duration
	if b.rate > 0 {
		now := time.Now()
		if b.freeAt.Before(now) {
			b.freeAt = now
		}
		b.freeAt = b.freeAt.Add(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
		wait = b.freeAt.Sub(now)
	}
	b.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pacedReader reads no faster than the bandwidth allows.
type pacedReader struct {
	ctx       context.Context
	in        io.Reader
	bandwidth *Bandwidth // nil: no limit
}

func (r *pacedReader) Read(p []byte) (int, error) {
	if r.bandwidth == nil {
		return r.in.Read(p)
	}
	if limit := r.bandwidth.maxReadBytes(); int64(len(p)) > limit {
		p = p[:limit]
	}
	n, err := r.in.Read(p)
	if n > 0 {
		if waitErr := r.bandwidth.wait(r.ctx, n); waitErr != nil {
			return 0, waitErr
		}
	}
	return n, err
}
