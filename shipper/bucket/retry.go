package bucket

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// retryDelays are the waits between the attempts of a call with a temporary failure.
var retryDelays = [...]time.Duration{200 * time.Millisecond, time.Second, 3 * time.Second} //nolint:gochecknoglobals // a constant table

// maxTimeouts limits the timeouts of one call, since each takes long.
const maxTimeouts = 2

// Retry makes a call, and repeats it up to three times after a failure of the storage
// that is not permanent.
func Retry(ctx context.Context, call func() error) error {
	timeouts := 0
	for i := 0; ; i++ {
		err := call()
		var failure *Error
		if err == nil || ctx.Err() != nil || i == len(retryDelays) || !errors.As(err, &failure) || failure.Permanent {
			return err
		}
		if failure.Kind == Timeout {
			if timeouts++; timeouts == maxTimeouts {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryDelays[i]):
		}
	}
}

// maxParallel is the max number of concurrent small requests. They mostly wait for the
// network.
const maxParallel = 16

// Parallel makes n calls, several at a time, and returns the first error. After an error
// no new call begins.
func Parallel(ctx context.Context, n int, call func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, maxParallel) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := call(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
