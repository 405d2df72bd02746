package shipper

import (
	"context"
	"slices"
	"sync"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// keeper checks, Limits.Keep after the storage confirmed an object, that the object is
// still there: a storage may lose confirmed objects in a power failure. The log keeps the
// segment until then, unless it needs the room. The keeper needs only a few hundred bytes
// of memory for each segment.
//
// If the object is gone or damaged, the log lists the segment again and the queue ships
// it like any other. A missing object is shipped again once, a damaged one up to
// maxReshipsDamaged times. Neither is shipped again after reshipLimit: a later loss is a
// deletion or a move by someone.
type keeper struct {
	*Shipper
	wake chan struct{} // makes run look now; capacity 1

	mu             sync.Mutex      // guards the fields below
	waiting        []*keptObject   // for a look, those with fewest tries first
	lastOutage     time.Time       // when the storage failed last
	forbiddenUntil time.Time       // no segment is kept before this time, since the storage forbids looks
	backoff        backoff         // of all looks, while the storage fails
	failingSince   time.Time       // since when all looks have failed; zero: the last one succeeded
	failedFor      time.Duration   // total time of earlier periods in which all looks failed
	openTroubles   map[string]bool // troubles that were logged and have not ended
	watchedAt      time.Time       // when watch last asked the storage
}

// keptObject is an object that the storage has confirmed.
type keptObject struct {
	segment            *wal.Segment
	object             bucket.Object // as stored, without its body
	confirmed          time.Time
	failedForAtConfirm time.Duration // keeper's failedForLocked when it was confirmed
	failedLooks        int

	// Result of the last look.
	wasRead bool   // the lines were read
	intact  bool   // the storage has the whole object
	problem string // what is wrong with the object; empty if nothing is
	err     error  // the storage did not answer

	maxReships int // max number of reshipments for this loss
}

const (
	// parallelLooks is the max number of concurrent looks. A look mostly waits for the
	// network.
	parallelLooks = 4
	// smallObject is the max size of an object that every look reads. Reading costs as
	// many requests as a look at its metadata, and also detects a power failure of the
	// storage.
	smallObject = 256 << 10
	// reshipLimit is the max time from an object's confirmation to its reshipment: the
	// storage may have a rule that deletes older objects. Time in which all looks failed
	// does not count, since a loss could not be seen earlier.
	reshipLimit = 24 * time.Hour
	// watchInterval is how often watch asks the storage. No machine restarts within this time
	// after a power failure.
	watchInterval = 10 * time.Second
	// maxReshipsDamaged is how often a segment with a damaged object is shipped again.
	// Some storages, such as Garage, skip a put of bytes that they seem to have, until they
	// notice the damage.
	maxReshipsDamaged = 3
)

// forbiddenFor is how long no segment is kept after a look was forbidden. The permission may
// be granted later, so the keeper then tries again.
const forbiddenFor = time.Hour

func newKeeper(s *Shipper) *keeper {
	return &keeper{Shipper: s, wake: make(chan struct{}, 1), openTroubles: map[string]bool{}}
}

// keep keeps in the log a segment that the storage has confirmed, and schedules a look.
func (k *keeper) keep(seg *wal.Segment, o *bucket.Object) {
	now := time.Now()
	k.mu.Lock()
	kept := &keptObject{segment: seg, object: *o, confirmed: now, failedForAtConfirm: k.failedForLocked(now)}
	k.mu.Unlock()
	kept.object.Body = nil
	seg.Keep()
	k.enqueue(kept)
	k.signal()
}

func (k *keeper) signal() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// retryNow ends the wait after a failure and applies new limits.
func (k *keeper) retryNow() {
	k.mu.Lock()
	k.backoff.until = time.Time{}
	k.mu.Unlock()
	k.signal()
}

// looksForbidden reports whether the storage forbids looks, so that keeping segments is useless.
func (k *keeper) looksForbidden() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.forbiddenUntil)
}

// recordOutage records that the storage failed now and may have lost confirmed objects.
func (k *keeper) recordOutage() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lastOutage = time.Now()
}

// failedForLocked returns the total time in which all looks failed. The caller holds the
// mutex.
func (k *keeper) failedForLocked(now time.Time) time.Duration {
	if k.failingSince.IsZero() {
		return k.failedFor
	}
	return k.failedFor + now.Sub(k.failingSince)
}

// recordLookSucceeded records that a look succeeded.
func (k *keeper) recordLookSucceeded() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failedFor, k.failingSince = k.failedForLocked(time.Now()), time.Time{}
	k.backoff = backoff{}
}

// isPastReshipLimit reports whether an object is older than reshipLimit, so that a rule of the
// storage may have deleted it.
func (k *keeper) isPastReshipLimit(kept *keptObject) bool {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Sub(kept.confirmed)-(k.failedForLocked(now)-kept.failedForAtConfirm) > reshipLimit
}

// mayHaveLost reports whether the storage failed after it confirmed an object. It is also
// true for an object that this process did not send: storage or daemon may have lost
// power between the put and its answer.
func (k *keeper) mayHaveLost(kept *keptObject) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mayHaveLostLocked(kept)
}

func (k *keeper) mayHaveLostLocked(kept *keptObject) bool {
	return !kept.object.Sent || !k.lastOutage.Before(kept.confirmed)
}

// readsMetadataOnlyLocked reports whether the next look at an object will read only its metadata,
// if the storage does not fail until then. The caller holds the mutex.
func (k *keeper) readsMetadataOnlyLocked(kept *keptObject) bool {
	return kept.object.Size > smallObject && !k.mayHaveLostLocked(kept)
}

// watch asks for the metadata of one object, to notice a power failure of the storage while
// nothing is shipped. A look would read only the metadata of this object. After a power failure,
// the storage may have the metadata but not the bytes.
func (k *keeper) watch(ctx context.Context) {
	now := time.Now()
	k.mu.Lock()
	i := slices.IndexFunc(k.waiting, k.readsMetadataOnlyLocked)
	if i < 0 || now.Sub(k.watchedAt) < watchInterval || now.Before(k.forbiddenUntil) {
		k.mu.Unlock()
		return
	}
	key := k.waiting[i].object.Key
	k.watchedAt = now
	k.mu.Unlock()
	callCtx, cancel := context.WithTimeout(k.callOptions(ctx), watchInterval/2)
	defer cancel()
	if _, err := k.store.Stat(callCtx, key); err != nil && !isForbidden(err) && ctx.Err() == nil {
		k.recordOutage()
	}
}

// run looks at due objects until ctx ends.
func (k *keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		k.watch(ctx)
		for {
			due, wait := k.due(time.Now())
			if len(due) == 0 {
				timer.Reset(wait)
				break
			}
			var looks sync.WaitGroup
			for _, kept := range due {
				looks.Go(func() { kept.err = k.look(ctx, kept) })
			}
			looks.Wait()
			if ctx.Err() != nil { // kept segments stay in the log
				return
			}
			for _, kept := range due {
				k.handleLook(kept)
			}
		}
	}
}

// due removes the objects to look at now from waiting, or returns the time to wait. While
// the storage fails, it returns one object at a time.
func (k *keeper) due(now time.Time) (due []*keptObject, wait time.Duration) {
	keep := k.currentLimits().Keep
	k.mu.Lock()
	defer k.mu.Unlock()
	limit, wait := parallelLooks, time.Hour
	if k.backoff.bound > 0 {
		if limit = 1; k.backoff.isWaiting(now) {
			return nil, k.backoff.until.Sub(now)
		}
	}
	k.waiting = slices.DeleteFunc(k.waiting, func(kept *keptObject) bool {
		remaining := kept.confirmed.Add(keep).Sub(now)
		if remaining > 0 || len(due) == limit {
			wait = min(wait, max(remaining, 0))
			if k.readsMetadataOnlyLocked(kept) {
				wait = min(wait, watchInterval)
			}
			return false
		}
		due = append(due, kept)
		return true
	})
	return due, wait
}
