package shipper

import (
	"context"
	"slices"
	"sync"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// keeper looks once more, Limits.Keep after the storage has confirmed an object, whether
// it is there: what a storage confirms is not always safe from a loss of its power. Until
// then the log keeps the segment, unless it needs the room, and so nothing here is held
// for it but a few hundred bytes.
//
// A segment whose object is gone or damaged is listed by the log again, and the queue
// ships it as it does any other. That happens once to a segment, and within a day in which
// the storage answered: what is gone then was deleted, or moved, by somebody. Only for
// damage it happens more often.
type keeper struct {
	*Shipper
	wake chan struct{} // has run look now; holds one

	mu      sync.Mutex      // guards what follows
	waiting []*keptObject   // for a look, first those that were put off less often
	outage  time.Time       // when the storage failed last
	blind   time.Time       // until when nothing is kept, since the storage does not let us look
	backoff backoff         // of all looks, while the storage fails
	silent  time.Time       // since when all looks have failed; zero: the last one did not
	silence time.Duration   // how long that was so before, in all
	trouble map[string]bool // that was logged, and is not over
	watched time.Time       // when the storage was last asked whether it is there
}

// keptObject is an object that the storage has confirmed.
type keptObject struct {
	segment   *wal.Segment
	object    bucket.Object // as it was stored; without its body
	confirmed time.Time
	silence   time.Duration // of the keeper, at that time
	tries     int           // looks that failed

	// Of the last look.
	read   bool   // the lines were read
	intact bool   // the storage has it
	lost   string // what it has instead, if it does not
	err    error  // it did not say what it has

	reships int // how often its segment may be shipped again for that
}

const (
	// parallelLooks is how many looks are under way at once: what they take is mostly the
	// way to the storage and back.
	parallelLooks = 4
	// smallObject is the size up to which an object is read rather than looked at: it
	// costs as many requests, and shows a loss of power that nothing else has shown.
	smallObject = 256 << 10
	// reshipLimit is how long after its confirmation a segment may be shipped again: the
	// storage may be told to delete what is older. The time in which the storage does not
	// say what it has does not count: nobody could see earlier what it has lost.
	reshipLimit = 24 * time.Hour
	// watchInterval is how often the storage is asked for an object that will not be read
	// unless the storage fails: no machine that loses its power is back sooner.
	watchInterval = 10 * time.Second
	// maxReshipsDamaged is how often a segment is shipped again whose object is damaged: a
	// storage that takes the same bytes for stored already, as Garage, stores them again
	// only after it has noticed the damage.
	maxReshipsDamaged = 3
)

// blindFor is how long nothing is kept once a look was refused. Then it is tried again:
// it may have been granted.
const blindFor = time.Hour

func newKeeper(s *Shipper) *keeper {
	return &keeper{Shipper: s, wake: make(chan struct{}, 1), trouble: map[string]bool{}}
}

// keep has the log keep a segment that the storage has confirmed.
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

// retryNow ends the wait after a failure, and has new limits heeded.
func (k *keeper) retryNow() {
	k.mu.Lock()
	k.backoff.until = time.Time{}
	k.mu.Unlock()
	k.signal()
}

// isBlind reports whether nothing is gained by keeping.
func (k *keeper) isBlind() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.blind)
}

// noteOutage notes that the storage failed, and may have lost what it has confirmed.
func (k *keeper) noteOutage() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.outage = time.Now()
}

// silenceLocked is how long looks have failed so far, in all.
func (k *keeper) silenceLocked(now time.Time) time.Duration {
	if k.silent.IsZero() {
		return k.silence
	}
	return k.silence + now.Sub(k.silent)
}

// answered notes that the storage has said what it has.
func (k *keeper) answered() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.silence, k.silent = k.silenceLocked(time.Now()), time.Time{}
	k.backoff = backoff{}
}

// isOld reports whether an object was confirmed so long ago that it may be gone because
// the storage was told so.
func (k *keeper) isOld(one *keptObject) bool {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Sub(one.confirmed)-(k.silenceLocked(now)-one.silence) > reshipLimit
}

// mayHaveLost reports whether the storage failed after it confirmed an object, or may have
// had it before: a loss of power can come between a put and its answer, or be that of
// the daemon, too.
func (k *keeper) mayHaveLost(one *keptObject) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mayHaveLostLocked(one)
}

func (k *keeper) mayHaveLostLocked(one *keptObject) bool {
	return !one.object.Sent || !k.outage.Before(one.confirmed)
}

// isUnreadLocked reports whether an object will be looked at, and not read, if the
// storage does not fail.
func (k *keeper) isUnreadLocked(one *keptObject) bool {
	return one.object.Size > smallObject && !k.mayHaveLostLocked(one)
}

// watch asks for one object that is not to be read, so that a loss of power is noticed
// while nothing is shipped: the storage may keep its size and metadata, and not its bytes.
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

// run looks at what is due until ctx ends.
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
			if ctx.Err() != nil { // what is kept stays in the log
				return
			}
			for _, one := range due {
				k.looked(one)
			}
		}
	}
}

// due takes those that are to be looked at now, or returns how long to wait. While the
// storage fails it is one at a time.
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
