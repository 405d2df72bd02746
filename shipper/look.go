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
func (k *keeper) look(ctx context.Context, one *keptObject) error {
	one.intact, one.lost, one.reships = false, "", 1
	if !one.segment.IsKept() { // the log needed its room
		return nil
	}
	one.read = one.object.Size <= smallObject || k.mayHaveLost(one)
	found, _, err := k.compare(k.callOptions(ctx), &one.object, one.read)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		one.lost = "it is gone"
	case err != nil:
		return err
	case found == bucket.SameLines:
		one.intact = true
		return nil
	case found == bucket.OtherLines:
		one.lost = "other lines are in its place"
	default:
		one.lost, one.reships = "it is damaged", maxReshipsDamaged
	}
	k.noteOutage() // the storage may have lost other objects, too
	return nil
}

// looked decides what happens to a kept segment after a look.
func (k *keeper) looked(one *keptObject) {
	if one.err == nil && !one.intact && one.lost == "" { // look asked nothing, since the log needed the room
		return
	}
	blind := time.Time{}
	if isForbidden(one.err) {
		blind = time.Now().Add(blindFor)
	}
	k.mu.Lock()
	k.blind = blind
	k.mu.Unlock()
	if one.err != nil && !isForbidden(one.err) {
		k.putOff(one)
		return
	}
	k.answered()
	switch {
	case one.err != nil:
		k.warn(troubleLook, "can't look whether the storage has kept what it confirmed: the segment is removed unseen (grant s3:GetObject and s3:ListBucket on this bucket and prefix; docs/storages.md, Permissions)",
			"key", one.object.Key, "error", one.err)
		_ = one.segment.Remove() // logged
	case one.lost != "":
		k.lost(one)
	case !one.read && k.mayHaveLost(one): // another look found an outage after this one had begun
		k.wait(one)
	default:
		k.over()
		_ = one.segment.Remove() // logged
	}
}

// lost ships again a segment whose object is missing or damaged. It gives up after the
// max number of reshipments or after reshipLimit.
func (k *keeper) lost(one *keptObject) {
	var reason string
	switch {
	case one.segment.Relisted() >= one.reships:
		reason = "it was shipped again before"
	case k.isOld(one):
		reason = "it was confirmed more than a day ago"
	case !one.segment.Relist():
		reason = "its segment was removed to make room"
	default:
		k.warn(troubleLost, "the storage has lost what it had confirmed: the segment is shipped again",
			"key", one.object.Key, "found", one.lost)
		return
	}
	k.Shipper.mu.Lock()
	k.stats.Vanished++
	k.Shipper.mu.Unlock()
	k.warn(troubleVanished, "what the storage had confirmed has vanished, and is not shipped again (objects younger than shipper.keep must not be deleted, moved or changed)",
		"key", one.object.Key, "records", one.object.Records, "found", one.lost, "reason", reason)
	_ = one.segment.Remove() // logged
}

// wait queues an object for a look, after the objects with as many tries.
func (k *keeper) wait(one *keptObject) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, _ := slices.BinarySearchFunc(k.waiting, one.tries+1, func(other *keptObject, tries int) int { return other.tries - tries })
	k.waiting = slices.Insert(k.waiting, at, one)
}

// putOff schedules another look after a failed one.
func (k *keeper) putOff(one *keptObject) {
	limits := k.currentLimits()
	kind, most, asked := "local", limits.RetryMax, time.Duration(0)
	var failure *bucket.Error
	if errors.As(one.err, &failure) {
		kind = failure.Kind
		if failure.Permanent {
			most = limits.RetryMaxPermanent
		}
		asked = min(failure.RetryAfter, limits.RetryMaxPermanent)
	}
	k.count(kind)
	now := time.Now()
	k.mu.Lock()
	k.backoff.failed(now, limits.RetryMin, most, asked)
	if k.silent.IsZero() {
		k.silent = now
	}
	k.mu.Unlock()
	one.tries++
	k.wait(one)
	k.warn(troubleLook, "can't look whether the storage has kept what it confirmed: the segment is kept, and it is tried again",
		"key", one.object.Key, "error", one.err)
}

func (k *keeper) warn(trouble, message string, args ...any) {
	k.mu.Lock()
	k.trouble[trouble] = true
	k.mu.Unlock()
	k.opts.Logger.Log(context.Background(), slog.LevelWarn, message, append([]any{"trouble", trouble, "destination", k.store.String()}, args...)...)
}

// over logs the end of all troubles.
func (k *keeper) over() {
	k.mu.Lock()
	over := slices.Sorted(maps.Keys(k.trouble))
	clear(k.trouble)
	k.mu.Unlock()
	for _, trouble := range over {
		k.opts.Logger.Info("the storage has what it confirmed", "trouble", trouble)
	}
}
