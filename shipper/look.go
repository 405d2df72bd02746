package shipper

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// Troubles that a look can find. Each ends with a look that finds the object intact.
const (
	troubleLook     = "last look"
	troubleLost     = "lost by the storage"
	troubleVanished = "vanished"
)

// look compares the storage's object with a kept one and stores the result in it. It
// returns an error if the storage did not answer.
func (k *keeper) look(ctx context.Context, kept *keptObject) error {
	kept.intact, kept.problem, kept.maxReships = false, "", 1
	if !kept.segment.IsKept() { // the log needed its room
		return nil
	}
	kept.wasRead = kept.object.Size <= smallObject || k.mayHaveLost(kept)
	found, _, err := k.compare(k.callOptions(ctx), &kept.object, kept.wasRead)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		kept.problem = "it is gone"
	case err != nil:
		return err
	case found == bucket.SameLines:
		kept.intact = true
		return nil
	case found == bucket.OtherLines:
		kept.problem = "other lines are in its place"
	default:
		kept.problem, kept.maxReships = "it is damaged", maxReshipsDamaged
	}
	k.recordOutage() // the storage may have lost other objects, too
	return nil
}

// handleLook decides what happens to a kept segment after a look.
func (k *keeper) handleLook(kept *keptObject) {
	if kept.err == nil && !kept.intact && kept.problem == "" { // the look asked nothing, since the log needed the room
		return
	}
	forbiddenUntil := time.Time{}
	if isForbidden(kept.err) {
		forbiddenUntil = time.Now().Add(forbiddenFor)
	}
	k.mu.Lock()
	k.forbiddenUntil = forbiddenUntil
	k.mu.Unlock()
	if kept.err != nil && !isForbidden(kept.err) {
		k.retryLook(kept)
		return
	}
	k.recordLookSucceeded()
	switch {
	case kept.err != nil:
		k.warn(troubleLook, "can't check whether the storage has kept what it confirmed: the segment is removed unchecked (grant s3:GetObject and s3:ListBucket on this bucket and prefix; docs/storages.md, Permissions)",
			"key", kept.object.Key, "error", kept.err)
		_ = kept.segment.Remove() // logged
	case kept.problem != "":
		k.reship(kept)
	case !kept.wasRead && k.mayHaveLost(kept): // another look found an outage after this one had begun
		k.enqueue(kept)
	default:
		k.logRecovery()
		_ = kept.segment.Remove() // logged
	}
}

// reship ships again a segment whose object is missing or damaged. It gives up after the
// max number of reshipments or after reshipLimit.
func (k *keeper) reship(kept *keptObject) {
	var reason string
	switch {
	case kept.segment.Relisted() >= kept.maxReships:
		reason = "it was shipped again before"
	case k.isPastReshipLimit(kept):
		reason = "it was confirmed more than a day ago"
	case !kept.segment.Relist():
		reason = "its segment was removed to make room"
	default:
		k.warn(troubleLost, "the storage has lost what it had confirmed: the segment is shipped again",
			"key", kept.object.Key, "found", kept.problem)
		return
	}
	k.Shipper.mu.Lock()
	k.stats.Vanished++
	k.Shipper.mu.Unlock()
	k.warn(troubleVanished, "an object that the storage had confirmed has vanished, and is not shipped again (objects younger than shipper.keep must not be deleted, moved or changed)",
		"key", kept.object.Key, "records", kept.object.Records, "found", kept.problem, "reason", reason)
	_ = kept.segment.Remove() // logged
}

// enqueue queues an object for a look, behind all objects with the same number of tries.
func (k *keeper) enqueue(kept *keptObject) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, _ := slices.BinarySearchFunc(k.waiting, kept.failedLooks+1, func(other *keptObject, tries int) int { return other.failedLooks - tries })
	k.waiting = slices.Insert(k.waiting, at, kept)
}

// retryLook schedules another look after a failed one.
func (k *keeper) retryLook(kept *keptObject) {
	limits := k.currentLimits()
	kind, maxDelay, requested := "local", limits.RetryMax, time.Duration(0)
	var failure *bucket.Error
	if errors.As(kept.err, &failure) {
		kind = failure.Kind
		if failure.Permanent {
			maxDelay = limits.RetryMaxPermanent
		}
		requested = min(failure.RetryAfter, limits.RetryMaxPermanent)
	}
	k.count(kind)
	now := time.Now()
	k.mu.Lock()
	k.backoff.addFailure(now, limits.RetryMin, maxDelay, requested)
	if k.failingSince.IsZero() {
		k.failingSince = now
	}
	k.mu.Unlock()
	kept.failedLooks++
	k.enqueue(kept)
	k.warn(troubleLook, "can't check whether the storage has kept what it confirmed: the segment is kept, and the check is repeated",
		"key", kept.object.Key, "error", kept.err)
}

func (k *keeper) warn(trouble, message string, args ...any) {
	k.mu.Lock()
	k.openTroubles[trouble] = true
	k.mu.Unlock()
	k.opts.Logger.Log(context.Background(), slog.LevelWarn, message, append([]any{"trouble", trouble, "destination", k.store.String()}, args...)...)
}

// logRecovery logs the end of all troubles.
func (k *keeper) logRecovery() {
	k.mu.Lock()
	ended := slices.Sorted(maps.Keys(k.openTroubles))
	clear(k.openTroubles)
	k.mu.Unlock()
	for _, trouble := range ended {
		k.opts.Logger.Info("the storage has what it confirmed", "trouble", trouble)
	}
}
