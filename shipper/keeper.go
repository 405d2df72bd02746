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

	mu      sync.Mutex      // guards the fields below
	waiting []*keptObject   // for a look, those with fewest tries first
	outage  time.Time       // when the storage failed last
	blind   time.Time       // no segment is kept before this time, since the storage forbids looks
	backoff backoff         // of all looks, while the storage fails
	silent  time.Time       // since when all looks have failed; zero: the last one succeeded
	silence time.Duration   // total time of earlier periods in which all looks failed
	trouble map[string]bool // troubles that were logged and have not ended
	watched time.Time       // when watch last asked the storage
}

// keptObject is an object that the storage has confirmed.
type keptObject struct {
	segment   *wal.Segment
	object    bucket.Object // as stored, without its body
	confirmed time.Time
	silence   time.Duration // keeper's total silence at that time
	tries     int           // failed looks

	// Result of the last look.
	read   bool   // the lines were read
	intact bool   // the storage has the whole object
	lost   string // what is wrong with the object; empty if nothing is
	err    error  // the storage did not answer

	reships int // max number of reshipments for this loss
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
	// watchInterval is how often watch asks the storage. No machine restarts faster after
	// a power failure.
	watchInterval = 10 * time.Second
	// maxReshipsDamaged is how often a segment with a damaged object is shipped again.
	// Some storages, such as Garage, skip a put of bytes that they believe to have, until
	// they notice the damage.
	maxReshipsDamaged = 3
)

// blindFor is how long no segment is kept after a look was forbidden. The permission may
// be granted later, so the keeper then tries again.
const blindFor = time.Hour

func newKeeper(s *Shipper) *keeper {
	return &keeper{Shipper: s, wake: make(chan struct{}, 1), trouble: map[string]bool{}}
}

// keep keeps in the log a segment that the storage has confirmed, and schedules a look.
func (k *keeper) keep(seg *wal.Segment, o *bucket.Object) {
	now := time.Now()
	k.mu.Lock()
	one := &keptObject{segment: seg, object: *o, confirmed: now, silence: k.silenceLocked(now)}
	k.mu.Unlock()
	one.object.Body = nil
	seg.Keep()
	k.wait(one)
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

// isBlind reports whether the storage forbids looks, so that keeping segments is useless.
func (k *keeper) isBlind() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.blind)
}

// noteOutage records that the storage failed now and may have lost confirmed objects.
func (k *keeper) noteOutage() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.outage = time.Now()
}

// silenceLocked returns the total time in which all looks failed. The caller holds the
// mutex.
func (k *keeper) silenceLocked(now time.Time) time.Duration {
	if k.silent.IsZero() {
		return k.silence
	}
	return k.silence + now.Sub(k.silent)
}

// answered records that a look succeeded.
func (k *keeper) answered() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.silence, k.silent = k.silenceLocked(time.Now()), time.Time{}
	k.backoff = backoff{}
}

// isOld reports whether an object is older than reshipLimit, so that a rule of the
// storage may have deleted it.
func (k *keeper) isOld(one *keptObject) bool {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Sub(one.confirmed)-(k.silenceLocked(now)-one.silence) > reshipLimit
}

// mayHaveLost reports whether the storage failed after it confirmed an object. It is also
// true for an object that this process did not send: storage or daemon may have lost
// power between the put and its answer.
func (k *keeper) mayHaveLost(one *keptObject) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mayHaveLostLocked(one)
}

func (k *keeper) mayHaveLostLocked(one *keptObject) bool {
	return !one.object.Sent || !k.outage.Before(one.confirmed)
}

// isUnreadLocked reports whether the look at an object will read only its metadata,
// unless the storage fails before. The caller holds the mutex.
func (k *keeper) isUnreadLocked(one *keptObject) bool {
	return one.object.Size > smallObject && !k.mayHaveLostLocked(one)
}

// watch asks for one object that a look would not read, to notice a power failure while
// nothing is shipped: after it, a storage may have an object's metadata but not its
// bytes.
func (k *keeper) watch(ctx context.Context) {
	now := time.Now()
	k.mu.Lock()
	i := slices.IndexFunc(k.waiting, k.isUnreadLocked)
	if i < 0 || now.Sub(k.watched) < watchInterval || now.Before(k.blind) {
		k.mu.Unlock()
		return
	}
	key := k.waiting[i].object.Key
	k.watched = now
	k.mu.Unlock()
	asked, cancel := context.WithTimeout(k.callOptions(ctx), watchInterval/2)
	defer cancel()
	if _, err := k.store.Stat(asked, key); err != nil && !isForbidden(err) && ctx.Err() == nil {
		k.noteOutage()
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
			for _, one := range due {
				looks.Go(func() { one.err = k.look(ctx, one) })
			}
			looks.Wait()
			if ctx.Err() != nil { // kept segments stay in the log
				return
			}
			for _, one := range due {
				k.looked(one)
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
		if limit = 1; k.backoff.waits(now) {
			return nil, k.backoff.until.Sub(now)
		}
	}
	k.waiting = slices.DeleteFunc(k.waiting, func(one *keptObject) bool {
		left := one.confirmed.Add(keep).Sub(now)
		if left > 0 || len(due) == limit {
			wait = min(wait, max(left, 0))
			if k.isUnreadLocked(one) {
				wait = min(wait, watchInterval)
			}
			return false
		}
		due = append(due, one)
		return true
	})
	return due, wait
}
