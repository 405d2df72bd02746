package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// Delays before the check of the storage is repeated. The delay doubles up to
// recheckMax.
const (
	recheckMin = 10 * time.Second
	recheckMax = time.Minute
)

// checkStorage checks the storage until it passes, so that a wrong bucket or key is
// logged soon after the start, even if there is nothing to ship. It does not affect the
// shipper.
func checkStorage(ctx context.Context, store bucket.Store, stall time.Duration, logger *slog.Logger) {
	failed := false
	for wait := recheckMin; ; wait = min(2*wait, recheckMax) {
		steps := examineWithin(ctx, max(storageTimeout, 2*stall), store, stall)
		i := slices.IndexFunc(steps, func(s bucket.Step) bool { return s.Outcome == bucket.Failed })
		switch {
		case ctx.Err() != nil:
			return
		case i < 0:
			if failed {
				logger.Info("the storage passes its check", "trouble", "storage_check", "destination", store.String())
			}
			return
		}
		failed = true
		step := steps[i]
		logger.Warn("the storage does not pass its check: usages are taken in and kept (collectord doctor shows each step)", "trouble", "storage_check",
			"destination", store.String(), "step", step.Name, "error", step.Found, "advice", step.Advice)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// examineWithin is bucket.Examine with a time limit, because a storage that sends a byte from
// time to time never stalls.
func examineWithin(ctx context.Context, limit time.Duration, store bucket.Store, stall time.Duration) []bucket.Step {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return bucket.Examine(bucket.WithCallOptions(ctx, &bucket.CallOptions{StallTimeout: stall}), store)
}
