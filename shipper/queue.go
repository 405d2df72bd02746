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
	shipper  *Shipper
	probed   bool // the probe has passed; it runs even if there is nothing to ship
	busy     map[*wal.Segment]bool
	setAside map[*wal.Segment]bool // segments of a later version
	tried    map[*wal.Segment]int  // failed attempts since the storage last accepted something
	own      map[*wal.Segment]*backoff
	suspects map[*wal.Segment]int // how often each failed first and another segment then succeeded

	// storage is the backoff of all uploads. While the storage fails, only one attempt at
	// a time runs, so that concurrency does not multiply the failures.
	storage backoff
	failed  time.Time    // when the last failed attempt ended
	kind    string       // of the last failure
	first   *wal.Segment // the segment whose failure was the first of the outage

	// The storage's outage, while it lasts.
	since    time.Time
	attempts int            // failed ones
	failure  bucket.Failure // of the last attempt
}

// suspicious is how often a segment may be a suspect before its failures count as its
// own: a storage may refuse a single key.
const suspicious = 3

type result struct {
	segment *wal.Segment
	probe   bool // the attempt only probed the storage
	began   time.Time
	err     error
}

func newQueue(s *Shipper) *queue {
	return &queue{
		shipper: s, busy: map[*wal.Segment]bool{}, setAside: map[*wal.Segment]bool{},
		tried: map[*wal.Segment]int{}, own: map[*wal.Segment]*backoff{}, suspects: map[*wal.Segment]int{},
	}
}

// retryNow ends all waits after failures.
func (q *queue) retryNow() {
	q.storage.until = time.Time{}
	defer q.report()
	for _, b := range q.own {
		b.until = time.Time{}
	}
}

// start begins as many attempts as the limits allow: Limits.Concurrency uploads, and up
// to one compression for each core ahead of them. It returns when the next attempt is due
// if nothing else happens; zero: none is. While the storage fails, the segments take
// turns, so that a refused segment does not block the others.
func (q *queue) start(ctx context.Context, now time.Time, segments []*wal.Segment) (due time.Time) {
	s := q.shipper
	q.forgetGone(segments)
	uploads := s.currentLimits().Concurrency
	ahead := min(uploads, cap(s.compressors))
	limit := uploads + ahead
	if q.storage.bound > 0 {
		uploads, limit = 1, 1
	}
	s.compressing.setLimit(ahead)
	s.uploading.setLimit(uploads)
	if q.storage.waits(now) {
		return q.storage.until
	}
	for len(q.busy) < limit {
		next, found := (*wal.Segment)(nil), false
		consider := func(seg *wal.Segment) {
			switch own := q.own[seg]; {
			case q.busy[seg] || q.setAside[seg]:
			case own != nil && own.waits(now):
				if due.IsZero() || own.until.Before(due) {
					due = own.until
				}
			case !found || q.tried[seg] < q.tried[next]:
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
		q.attempt(ctx, next)
	}
	return due
}

// attempt ships a segment, or probes the storage and ships the loss notes, in the
// background.
func (q *queue) attempt(ctx context.Context, seg *wal.Segment) {
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
				r.err = s.shipLosses(ctx)
			}
		} else {
			r.err = s.ship(ctx, seg, compress)
			seg.Release()
		}
		s.done <- r
	}()
}

func (q *queue) finished(ctx context.Context, r result) {
	s := q.shipper
	delete(q.busy, r.segment)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer q.reportLocked()
	if !r.probe {
		s.stats.InFlight--
	}
	close(s.idle)
	s.idle = make(chan struct{})

	name := "loss notes"
	switch {
	case r.segment != nil:
		name = r.segment.String()
	case !q.probed:
		name = "none yet: the storage is asked what it can do"
	}
	switch {
	case r.err == nil:
		s.succeededLocked()
		q.probed = q.probed || r.segment == nil
		q.recovered(r.segment)
	case ctx.Err() != nil: // stopped
	case errors.Is(r.err, errSalvaged):
		q.forget(r.segment)
		s.stats.Salvaged++
	case errors.Is(r.err, errSplit):
		q.forget(r.segment)
		s.countLocked(bucket.TooLarge)
	case errors.Is(r.err, wal.ErrVersion):
		q.setAside[r.segment] = true
		s.stats.Foreign = len(q.setAside)
		s.opts.Logger.Error("left alone a sealed segment of a later version: install that version to ship it",
			"segment", name, "error", r.err)
	default:
		q.failedLocked(r, name)
	}
}

// recovered updates the queue after a successful attempt.
func (q *queue) recovered(seg *wal.Segment) {
	logger := q.shipper.opts.Logger
	if q.storage.bound > 0 {
		q.storage = backoff{}
		if q.first != seg {
			q.suspects[q.first]++
		}
		clear(q.tried) // the oldest segment goes first again
		logger.Info("shipping again", "trouble", "shipping", "destination", q.shipper.store.String())
	}
	hadOwn := q.own[seg] != nil
	q.forget(seg)
	if hadOwn && len(q.own) == 0 {
		logger.Info("no segment is held up any more", "trouble", "segment")
	}
}

// forgetGone drops the state of segments that the log no longer lists, such as evicted
// ones.
func (q *queue) forgetGone(segments []*wal.Segment) {
	if len(q.own)+len(q.setAside)+len(q.tried)+len(q.suspects) == 0 {
		return
	}
	listed := map[*wal.Segment]bool{nil: true}
	for _, seg := range segments {
		listed[seg] = true
	}
	gone := func(seg *wal.Segment) bool { return !listed[seg] && !q.busy[seg] }
	held := len(q.own)
	maps.DeleteFunc(q.own, func(seg *wal.Segment, _ *backoff) bool { return gone(seg) })
	maps.DeleteFunc(q.setAside, func(seg *wal.Segment, _ bool) bool { return gone(seg) })
	maps.DeleteFunc(q.tried, func(seg *wal.Segment, _ int) bool { return gone(seg) })
	maps.DeleteFunc(q.suspects, func(seg *wal.Segment, _ int) bool { return gone(seg) })
	if held > 0 && len(q.own) == 0 {
		q.shipper.opts.Logger.Info("no segment is held up any more", "trouble", "segment")
	}
	q.shipper.mu.Lock()
	defer q.shipper.mu.Unlock()
	q.shipper.stats.Foreign = len(q.setAside)
	q.reportLocked()
}

func (q *queue) forget(seg *wal.Segment) {
	delete(q.tried, seg)
	delete(q.own, seg)
	delete(q.suspects, seg)
}

// failedLocked schedules the next attempt: of this segment if the trouble is its own,
// otherwise of all segments. The caller holds the shipper's mutex.
func (q *queue) failedLocked(r result, name string) {
	s, now := q.shipper, time.Now()
	q.tried[r.segment]++
	kind, least, most, asked := "local", s.limits.RetryMin, s.limits.RetryMax, time.Duration(0)
	own := !isFull(r.err)
	var storeErr *bucket.Error
	if errors.As(r.err, &storeErr) {
		kind, own = storeErr.Kind, storeErr.OwnTrouble
		if storeErr.Permanent {
			most = s.limits.RetryMaxPermanent
		}
		asked = min(storeErr.RetryAfter, s.limits.RetryMaxPermanent)
	}
	s.countLocked(kind)
	q.kind = kind
	if own || q.suspects[r.segment] >= suspicious {
		b := q.own[r.segment]
		if b == nil {
			b = &backoff{}
			q.own[r.segment] = b
		}
		b.failed(now, least, most, asked)
		s.opts.Logger.Error("can't ship a segment: it is kept and tried again, and the others go on", "trouble", "segment",
			"destination", s.store.String(), "segment", name, "error", r.err)
		return
	}
	// Attempts that ran at the same time fail for the same reason, so only the first of
	// them extends the backoff.
	if q.storage.bound == 0 {
		q.first, q.since, q.attempts = r.segment, now, 0
	}
	q.attempts++
	q.failure = bucket.FailureOf(r.err)
	if q.storage.bound == 0 || !r.began.Before(q.failed) {
		q.storage.failed(now, least, most, asked)
		q.failed = now
	}
	s.opts.Logger.Error("can't ship: everything is kept and tried again", "trouble", "shipping",
		"destination", s.store.String(), "segment", name, "error", r.err)
}
