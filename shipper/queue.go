package shipper

import (
	"context"
	"errors"
	"maps"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// queue is what Run knows of the segments. Only its goroutine uses it. A nil
// segment stands for the probe of the storage, and then for the loss notes.
type queue struct {
	shipper  *Shipper
	probed   bool // the storage was, also where there is nothing to ship
	busy     map[*wal.Segment]bool
	setAside map[*wal.Segment]bool // of a later version
	tried    map[*wal.Segment]int  // attempts that failed since the storage last took something
	own      map[*wal.Segment]*backoff
	suspects map[*wal.Segment]int // how often each failed first, and the next to be tried did not

	// storage is the backoff of all uploads: while the storage fails there is one
	// attempt at a time, so that concurrency does not multiply them.
	storage backoff
	failed  time.Time    // when an attempt failed last
	kind    string       // of that failure
	first   *wal.Segment // that failed, if the storage fails

	// Of the storage, while it fails.
	since    time.Time
	attempts int            // that failed
	failure  bucket.Failure // the last one
}

// suspicious is how often a segment may be a suspect before its failures are
// taken for its own: a storage may refuse one key, for reasons of its own.
const suspicious = 3

// result is how an attempt ended.
type result struct {
	segment *wal.Segment
	probe   bool // and nothing else
	began   time.Time
	err     error
}

func newQueue(s *Shipper) *queue {
	return &queue{
		shipper: s, busy: map[*wal.Segment]bool{}, setAside: map[*wal.Segment]bool{},
		tried: map[*wal.Segment]int{}, own: map[*wal.Segment]*backoff{}, suspects: map[*wal.Segment]int{},
	}
}

// retryNow ends all waiting.
func (q *queue) retryNow() {
	q.storage.until = time.Time{}
	defer q.report()
	for _, b := range q.own {
		b.until = time.Time{}
	}
}

// start begins as many attempts as there is room for, and returns when there may be
// more to do if nothing else happens: Limits.Concurrency that upload, and as many as there
// are cores that are compressed meanwhile. While the storage fails the segments take
// turns, so that one that it refuses does not keep the others waiting.
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
		if !found || next != nil && !next.Hold() { // it is being evicted: there will be news of it
			return due
		}
		q.attempt(ctx, next)
	}
	return due
}

// attempt ships a segment, or the loss notes, in the background.
func (q *queue) attempt(ctx context.Context, seg *wal.Segment) {
	q.busy[seg] = true
	r := result{segment: seg, began: time.Now(), probe: seg == nil && q.shipper.log.Stats().LossNotes == 0}
	s := q.shipper
	s.mu.Lock()
	if !r.probe { // nobody need wait for it
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

// finished notes how an attempt ended.
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

// recovered notes that an attempt succeeded.
func (q *queue) recovered(seg *wal.Segment) {
	logger := q.shipper.opts.Logger
	if q.storage.bound > 0 {
		q.storage = backoff{}
		if q.first != seg {
			q.suspects[q.first]++
		}
		clear(q.tried) // the oldest goes first again
		logger.Info("shipping again", "trouble", "shipping", "destination", q.shipper.store.String())
	}
	hadOwn := q.own[seg] != nil
	q.forget(seg)
	if hadOwn && len(q.own) == 0 {
		logger.Info("no segment is held up any more", "trouble", "segment")
	}
}

// forgetGone drops what is known of segments that are not listed any more, such as evicted ones.
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

// failedLocked spaces the next attempt: of this segment, if the trouble is its
// own, or else of all. The shipper's mutex is held.
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
	// Attempts that were under way together failed together.
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
