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

// Troubles that a look can find. Each is over once a look finds what it should.
const (
	troubleLook     = "last look"
	troubleLost     = "lost by the storage"
	troubleVanished = "vanished"
)

// look decides what becomes of a kept segment. It returns an error if the storage did
// not say what it has, and nothing is decided.
func (k *keeper) look(ctx context.Context, one *keptObject) error {
	if !one.segment.IsKept() { // its room was needed
		return nil
	}
	read := one.object.Size <= smallObject || k.mayHaveLost(one)
	found, _, err := bucket.Compare(k.callOptions(ctx), k.store, &one.object, read)
	if err == nil && found == bucket.SameLines && !read && k.mayHaveLost(one) { // meanwhile
		found, _, err = bucket.Compare(k.callOptions(ctx), k.store, &one.object, bucket.Read)
	}
	switch {
	case err == nil && found == bucket.SameLines:
		k.over()
		return one.segment.Remove()
	case isForbidden(err):
		k.warn(troubleLook, "can't look whether the storage has kept what it confirmed: the segment is removed unseen (grant s3:GetObject and s3:ListBucket on this bucket and prefix; README, Permissions)",
			"key", one.object.Key, "error", err)
		return one.segment.Remove()
	case errors.Is(err, bucket.ErrNotFound):
		k.lost(one, "it is gone")
	case err != nil:
		return err
	default:
		k.lost(one, [...]string{bucket.OtherLines: "other lines are in its place", bucket.DamagedCopy: "it is damaged", bucket.Undecodable: "it is damaged"}[found])
	}
	return nil
}

// lost has a segment shipped again whose object is not there, or not whole, unless that
// was tried before or is too late.
func (k *keeper) lost(one *keptObject, what string) {
	k.noteOutage() // it may have lost others, too
	reason := ""
	switch {
	case one.segment.WasRelisted():
		reason = "it was shipped again before"
	case time.Since(one.confirmed) > reshipLimit:
		reason = "it was confirmed more than a day ago"
	case !one.segment.Relist():
		reason = "its segment was removed to make room"
	default:
		k.warn(troubleLost, "the storage has lost what it had confirmed: the segment is shipped again",
			"key", one.object.Key, "found", what)
		return
	}
	k.Shipper.mu.Lock()
	k.stats.Vanished++
	k.Shipper.mu.Unlock()
	k.warn(troubleVanished, "what the storage had confirmed has vanished, and is not shipped again (let nothing delete, move or change objects that are younger than shipper.keep)",
		"key", one.object.Key, "records", one.object.Records, "found", what, "reason", reason)
	_ = one.segment.Remove()
}

// putOff has the storage asked again later.
func (k *keeper) putOff(one *keptObject, err error) {
	limits := k.currentLimits()
	kind, most, asked := "local", limits.RetryMax, time.Duration(0)
	var failure *bucket.Error
	if errors.As(err, &failure) {
		kind = failure.Kind
		if failure.Permanent {
			most = limits.RetryMaxPermanent
		}
		asked = min(failure.RetryAfter, limits.RetryMaxPermanent)
	}
	k.count(kind)
	k.mu.Lock()
	one.tries++
	at, _ := slices.BinarySearchFunc(k.waiting, one.tries+1, func(other *keptObject, tries int) int { return other.tries - tries })
	k.waiting = slices.Insert(k.waiting, at, one)
	k.backoff.failed(time.Now(), limits.RetryMin, most, asked)
	k.mu.Unlock()
	k.warn(troubleLook, "can't look whether the storage has kept what it confirmed: the segment is kept, and it is tried again",
		"key", one.object.Key, "error", err)
}

func (k *keeper) warn(trouble, message string, args ...any) {
	k.mu.Lock()
	k.trouble[trouble] = true
	k.mu.Unlock()
	k.opts.Logger.Log(context.Background(), slog.LevelWarn, message, append([]any{"trouble", trouble, "destination", k.store.String()}, args...)...)
}

// answered notes that the storage says what it has.
func (k *keeper) answered() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.backoff = backoff{}
}

// over notes that the storage has what it confirmed.
func (k *keeper) over() {
	k.mu.Lock()
	over := slices.Sorted(maps.Keys(k.trouble))
	clear(k.trouble)
	k.mu.Unlock()
	for _, trouble := range over {
		k.opts.Logger.Info("the storage has what it confirmed", "trouble", trouble)
	}
}
