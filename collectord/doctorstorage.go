package main

import (
	"context"
	"time"

	"collectord/collectord/doctor"
	"collectord/shipper/bucket"
)

// storageTimeout limits the examination of the storage.
const storageTimeout = time.Minute

func (x *checkRun) storage() []doctor.Check {
	cfg := x.draft.Config
	if isFolder(cfg) {
		return x.folder()
	}
	store, err := openStoreToRead(cfg)
	if err != nil {
		return []doctor.Check{doctor.Fail("storage.destination", err.Error(), "correct shipper.destination")}
	}
	ctx, cancel := context.WithTimeout(x.ctx, storageTimeout)
	defer cancel()
	ctx = bucket.WithCallOptions(ctx, &bucket.CallOptions{StallTimeout: min(storageTimeout/4, cfg.Shipper.StallTimeout), OnClock: func(ahead time.Duration) { x.clockAhead.Store(&ahead) }})
	steps := bucket.Examine(ctx, store)
	if x.outsideService {
		steps = skipCredentials(cfg, steps)
	}
	return stepChecks(steps)
}

// stepChecks converts the steps of the storage into checks.
func stepChecks(steps []bucket.Step) (all []doctor.Check) {
	for _, s := range steps {
		level := map[bucket.Outcome]doctor.Level{bucket.Passed: doctor.OK, bucket.Doubtful: doctor.Warning, bucket.Failed: doctor.Error}[s.Outcome]
		if s.Outcome == bucket.NotChecked {
			all = append(all, doctor.Skip("storage."+s.Name, s.Found))
			continue
		}
		all = append(all, doctor.Check{Name: "storage." + s.Name, Level: level, Found: s.Found, Advice: s.Advice})
	}
	return all
}
