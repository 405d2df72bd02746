package shipper

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how often, and after which waits, a call is repeated that failed
// for a reason that may pass.
var patience = [...]time.Duration{200 * time.Millisecond, time.Second, 3 * time.Second} //nolint:gochecknoglobals // a constant table

func patiently(ctx context.Context, call func() error) error {
	for i := 0; ; i++ {
		err := call()
		var trouble *StoreError
		if err == nil || ctx.Err() != nil || i == len(patience) || !errors.As(err, &trouble) || trouble.Permanent {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(patience[i]):
		}
	}
}

// requests is how many small requests are under way at once: what they take is
// mostly the way there and back.
const requests = 16

// atOnce makes n calls, several at a time and each patiently, and returns their
// first error. What is not there is none.
func atOnce(ctx context.Context, n int, call func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, requests) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := patiently(ctx, func() error { return call(i) }); err != nil && !errors.Is(err, ErrNotFound) {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
