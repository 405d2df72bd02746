package shipper

import (
	"context"
	"io"
	"sync"
	"time"
)

// bandwidth shares a number of bytes a second among all that is sent. Nothing is
// saved up: after a pause it goes on at the same rate.
type bandwidth struct {
	mu   sync.Mutex // guards what follows
	rate int64      // bytes a second; 0: no bound
	free time.Time  // when what was taken so far has been paid for
}

func (b *bandwidth) set(rate int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate = rate; rate == 0 {
		b.free = time.Time{}
	}
}

// portion is how much may be taken at once: what keeps any one wait short, also
// after the rate was changed.
func (b *bandwidth) portion() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == 0 {
		return 1 << 62
	}
	return max(256, b.rate/16)
}

// take waits until n bytes may be sent.
func (b *bandwidth) take(ctx context.Context, n int) error {
	b.mu.Lock()
	var wait time.Duration
	if b.rate > 0 {
		now := time.Now()
		if b.free.Before(now) {
			b.free = now
		}
		b.free = b.free.Add(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
		wait = b.free.Sub(now)
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
	bandwidth *bandwidth // nil: no bound
}

func (r *pacedReader) Read(p []byte) (int, error) {
	if r.bandwidth == nil {
		return r.in.Read(p)
	}
	if most := r.bandwidth.portion(); int64(len(p)) > most {
		p = p[:most]
	}
	n, err := r.in.Read(p)
	if n > 0 {
		if waitErr := r.bandwidth.take(r.ctx, n); waitErr != nil {
			return 0, waitErr
		}
	}
	return n, err
}
