package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// How long the check of the storage waits before it is made again: twice as long each time.
const (
	checkAgainAfter  = 10 * time.Second
	checkAgainAtMost = time.Minute
)

// checkStorage goes through the steps of the storage until none fails, so that whoever
// starts a daemon with a wrong bucket or key sees so at once, also where nothing is to be
// shipped. It changes nothing of what the shipper does.
func checkStorage(ctx context.Context, store bucket.Store, stall time.Duration, logger *slog.Logger) {
	failed := false
	for wait := checkAgainAfter; ; wait = min(2*wait, checkAgainAtMost) {
		steps := bucket.Examine(bucket.WithCallOptions(ctx, &bucket.CallOptions{StallTimeout: stall}), store)
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
