package shipper

import (
	"context"
	"errors"
	"maps"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// queue is the state of the segments that Run ships. Only Run's goroutine uses it. A nil
// segment stands for the probe of the storage, and after that for the loss notes.
type queue struct {
	shipper        *Shipper
	probed         bool // the probe has passed; it runs even if there is nothing to ship
	busy           map[*wal.Segment]bool
	foreign        map[*wal.Segment]bool // segments of a later version
	failedAttempts map[*wal.Segment]int  // failed attempts since the storage last accepted something
	ownBackoff     map[*wal.Segment]*backoff
	suspects       map[*wal.Segment]int // how often the segment began an outage that another segment's success ended

	// storageBackoff is the backoff of all uploads. While the storage fails, only one attempt at
	// a time runs, so that concurrency does not multiply the failures.
	storageBackoff backoff
	lastFailure    time.Time    // when the last failed attempt ended
	lastKind       string       // of the last failure
	firstFailed    *wal.Segment // the segment whose failure was the first of the outage

	// The storage's outage, while it lasts.
	failingSince time.Time
	attempts     int            // failed ones
	failure      bucket.Failure // of the last attempt
}

// maxSuspicions is how often a segment may be a suspect before its failures count as its
// own: a storage may refuse a single key.
const maxSuspicions = 3

type result struct {
	segment *wal.Segment
	probe   bool // the attempt only probed the storage
	probed  bool // the storage answered the probe, so that err is about the loss notes
	began   time.Time
	err     error
}

func newQueue(s *Shipper) *queue {
	return &queue{
		shipper: s, busy: map[*wal.Segment]bool{}, foreign: map[*wal.Segment]bool{},
		failedAttempts: map[*wal.Segment]int{}, ownBackoff: map[*wal.Segment]*backoff{}, suspects: map[*wal.Segment]int{},
	}
}

// retryNow ends all waits after failures.
func (q *queue) retryNow() {
	q.storageBackoff.until = time.Time{}
	defer q.publish()
	for _, b := range q.ownBackoff {
		b.until = time.Time{}
	}
}

// start begins as many attempts as the limits allow: Limits.Concurrency uploads, and up
// to one compression for each core ahead of them. It returns the time of the next attempt if
// nothing happens before; zero: no attempt is planned. While the storage fails, the segments take
// turns, so that a refused segment does not block the others.
func (q *queue) start(ctx context.Context, now time.Time, segments []*wal.Segment) (due time.Time) {
	s := q.shipper
	q.forgetUnlisted(segments)
	uploads := s.currentLimits().Concurrency
	ahead := min(uploads, cap(s.compressors))
	limit := uploads + ahead
	if q.storageBackoff.bound > 0 {
		uploads, limit = 1, 1
	}
	s.compressing.setLimit(ahead)
	s.uploading.setLimit(uploads)
	if q.storageBackoff.isWaiting(now) {
		return q.storageBackoff.until
	}
	for len(q.busy) < limit {
		next, found := (*wal.Segment)(nil), false
		consider := func(seg *wal.Segment) {
			switch delay := q.ownBackoff[seg]; {
			case q.busy[seg] || q.foreign[seg]:
			case delay != nil && delay.isWaiting(now):
				if due.IsZero() || delay.until.Before(due) {
					due = delay.until
				}
			case !found || q.failedAttempts[seg] < q.failedAttempts[next]:
				next, found = seg, true
			}
		}
		if !q.probed || s.log.Stats().LossNotes > 0 {
			consider(nil)
		}
		for _, seg := range segments {
			consider(seg)
		}
		if !found || next != nil && !next.Hold() { // Hold fails during an eviction: the log signals its end
			return due
		}
		q.startAttempt(ctx, next)
	}
	return due
}

// startAttempt ships a segment, or probes the storage and ships the loss notes, in the
// background.
func (q *queue) startAttempt(ctx context.Context, seg *wal.Segment) {
	q.busy[seg] = true
	r := result{segment: seg, began: time.Now(), probe: seg == nil && q.shipper.log.Stats().LossNotes == 0}
	s := q.shipper
	s.mu.Lock()
	if !r.probe { // Drain does not wait for a probe
		s.stats.InFlight++
	}
	s.mu.Unlock()
	ctx = s.callOptions(ctx)
	var compress turn
	if seg != nil {
		compress = s.compressing.join()
	}
	go func() {
		if seg == nil {
			if r.err = s.store.Probe(ctx); r.err == nil {
				r.probed, r.err = true, s.shipLosses(ctx)
			}
		} else {
			r.err = s.ship(ctx, seg, compress)
			seg.Release()
		}
		s.results <- r
	}()
}

func (q *queue) handleResult(ctx context.Context, r result) {
	s := q.shipper
	delete(q.busy, r.segment)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer q.publishLocked()
	if !r.probe {
		s.stats.InFlight--
	}
	close(s.idle)
	s.idle = make(chan struct{})

	name := "loss notes"
	switch {
	case r.segment != nil:
		name = r.segment.String()
	case !q.probed && !r.probed:
		name = "none yet: the storage is asked what it can do"
	}
	switch {
	case r.err == nil:
		s.recordSuccessLocked()
		q.probed = q.probed || r.segment == nil
		q.handleSuccess(r.segment)
	case ctx.Err() != nil: // stopped
	case errors.Is(r.err, errSalvaged):
		q.forget(r.segment)
		s.stats.Salvaged++
	case errors.Is(r.err, errSplit):
		q.forget(r.segment)
		s.countLocked(bucket.TooLarge)
	case errors.Is(r.err, wal.ErrVersion):
		q.foreign[r.segment] = true
		s.stats.Foreign = len(q.foreign)
		s.opts.Logger.Error("left alone a sealed segment of a later version: install that version to ship it",
			"segment", name, "error", r.err)
	default:
		q.handleFailureLocked(r, name)
	}
}

// handleSuccess updates the queue after a successful attempt.
func (q *queue) handleSuccess(seg *wal.Segment) {
	if q.storageBackoff.bound > 0 {
		q.storageBackoff = backoff{}
		if q.firstFailed != seg {
			q.suspects[q.firstFailed]++
		}
		clear(q.failedAttempts) // the oldest segment goes first again
		q.shipper.opts.Logger.Info("shipping again", "trouble", "shipping", "destination", q.shipper.store.String())
	}
	hadOwn := len(q.ownBackoff)
	q.forget(seg)
	q.logOwnEnd(hadOwn)
}

// logOwnEnd logs that the last segment with a backoff of its own has lost it; hadOwn is how
// many there were before.
func (q *queue) logOwnEnd(hadOwn int) {
	if hadOwn > 0 && len(q.ownBackoff) == 0 {
		q.shipper.opts.Logger.Info("no segment and no loss note is held up any more", "trouble", "segment")
	}
}

// forgetUnlisted drops the state of segments that the log no longer lists, such as evicted
// ones.
func (q *queue) forgetUnlisted(segments []*wal.Segment) {
	if len(q.ownBackoff)+len(q.foreign)+len(q.failedAttempts)+len(q.suspects) == 0 {
		return
	}
	listed := map[*wal.Segment]bool{nil: true}
	for _, seg := range segments {
		listed[seg] = true
	}
	isUnlisted := func(seg *wal.Segment) bool { return !listed[seg] && !q.busy[seg] }
	hadOwn := len(q.ownBackoff)
	maps.DeleteFunc(q.ownBackoff, func(seg *wal.Segment, _ *backoff) bool { return isUnlisted(seg) })
	maps.DeleteFunc(q.foreign, func(seg *wal.Segment, _ bool) bool { return isUnlisted(seg) })
	maps.DeleteFunc(q.failedAttempts, func(seg *wal.Segment, _ int) bool { return isUnlisted(seg) })
	maps.DeleteFunc(q.suspects, func(seg *wal.Segment, _ int) bool { return isUnlisted(seg) })
	q.logOwnEnd(hadOwn)
	q.shipper.mu.Lock()
	defer q.shipper.mu.Unlock()
	q.shipper.stats.Foreign = len(q.foreign)
	q.publishLocked()
}

func (q *queue) forget(seg *wal.Segment) {
	delete(q.failedAttempts, seg)
	delete(q.ownBackoff, seg)
	delete(q.suspects, seg)
}

// handleFailureLocked schedules the next attempt: of this segment if the trouble is its own,
// otherwise of all segments. The caller holds the shipper's mutex.
func (q *queue) handleFailureLocked(r result, name string) {
	s, now := q.shipper, time.Now()
	q.failedAttempts[r.segment]++
	kind, minDelay, maxDelay, requested := "local", s.limits.RetryMin, s.limits.RetryMax, time.Duration(0)
	isOwn := !isFull(r.err)
	var storeErr *bucket.Error
	if errors.As(r.err, &storeErr) {
		kind, isOwn = storeErr.Kind, storeErr.ThisObjectOnly
		if storeErr.Permanent {
			maxDelay = s.limits.RetryMaxPermanent
		}
		requested = min(storeErr.RetryAfter, s.limits.RetryMaxPermanent)
	}
	s.countLocked(kind)
	q.lastKind = kind
	if isOwn || q.suspects[r.segment] >= maxSuspicions {
		b := q.ownBackoff[r.segment]
		if b == nil {
			b = &backoff{}
			q.ownBackoff[r.segment] = b
		}
		b.addFailure(now, minDelay, maxDelay, requested)
		message := "can't ship a segment: it is kept and tried again, and the others go on"
		if r.probed {
			message = "can't ship the loss notes: they are kept and tried again, and the segments go on"
		}
		s.opts.Logger.Error(message, "trouble", "segment", "destination", s.store.String(), "segment", name, "error", r.err)
		return
	}
	// Attempts that ran at the same time fail for the same reason, so only the first of
	// them extends the backoff.
	if q.storageBackoff.bound == 0 {
		q.firstFailed, q.failingSince, q.attempts = r.segment, now, 0
	}
	q.attempts++
	q.failure = bucket.FailureOf(r.err)
	if q.storageBackoff.bound == 0 || !r.began.Before(q.lastFailure) {
		q.storageBackoff.addFailure(now, minDelay, maxDelay, requested)
		q.lastFailure = now
	}
	s.opts.Logger.Error("can't ship: everything is kept and tried again", "trouble", "shipping",
		"destination", s.store.String(), "segment", name, "error", r.err)
}
