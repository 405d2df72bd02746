package shipper

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// unchangedInterval is the time between heartbeats while nothing changes. firstHeartbeat
// is the shortest delay after a start: the network may not be up yet, and other work
// comes first.
const (
	unchangedInterval = time.Hour
	firstHeartbeat    = 10 * time.Second
)

// heartbeatWriter writes the heartbeats of the log. Their failures affect nothing else. Only one
// goroutine at a time uses it.
type heartbeatWriter struct {
	shipper       *Shipper
	limitsChanged chan struct{} // signals new limits; capacity 1

	written       bucket.Heartbeat // the last one that the storage accepted
	writtenAt     time.Time        // when written was accepted
	longInterval  bool             // written announced unchangedInterval as the time to the next one
	failureKind   string           // the kind of the last failure; empty after a success
	previousRun   bucket.Heartbeat // the heartbeat that existed before the first of this run; zero: none
	readForbidden bool             // the storage forbids reading heartbeats
	clonedAt      time.Time        // when another host's heartbeat was last found; zero: none within clonedFor
	samples       []sample         // samples of the last day, oldest first
}

// sample is the last acknowledged seq at a point in time.
type sample struct {
	at   time.Time
	last uint64
}

// Usages per day are computed from samples at least sampleEvery apart.
const (
	day         = 24 * time.Hour
	sampleEvery = 30 * time.Minute
)

// run writes heartbeats until ctx ends.
func (h *heartbeatWriter) run(ctx context.Context) {
	if last, _, err := h.shipper.log.Progress(); err == nil {
		h.addSample(last)
	}
	// The hosts of a fleet may start at the same moment: the random delay spreads their
	// heartbeats.
	wait := firstHeartbeat + rand.N(firstHeartbeat)
	for first := true; ; {
		every := h.shipper.currentLimits().Heartbeat
		due := make(<-chan time.Time) // never
		var timer *time.Timer
		if every > 0 {
			wait = min(wait, every)
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-h.limitsChanged:
		case <-due:
			h.write(ctx, false)
			if wait = every; first {
				wait, first = rand.N(every), false
			}
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// addSample records last and returns the number of usages acknowledged within span, which
// is at most about a day.
func (h *heartbeatWriter) addSample(last uint64) (usages uint64, span time.Duration) {
	now := time.Now()
	if n := len(h.samples); n == 0 || now.Sub(h.samples[n-1].at) >= sampleEvery {
		h.samples = append(h.samples, sample{now, last})
	}
	for len(h.samples) > 1 && now.Sub(h.samples[1].at) >= day {
		h.samples = h.samples[1:]
	}
	return last - min(last, h.samples[0].last), now.Sub(h.samples[0].at)
}

// nextInterval returns the time until the next heartbeat. The heartbeat announces it. Only an
// idle host announces the long interval, so that an audit soon reports a busy host that stopped.
func (h *heartbeatWriter) nextInterval(idle bool) time.Duration {
	every := h.shipper.currentLimits().Heartbeat
	if idle && every > 0 {
		return unchangedInterval + every
	}
	return every
}

// write writes a heartbeat. It skips a heartbeat that equals the last one, if the last one
// announced unchangedInterval.
func (h *heartbeatWriter) write(ctx context.Context, retired bool) {
	s := h.shipper
	now, key, err := s.heartbeat(retired)
	if err != nil {
		return // a log that has not started has no identity
	}
	usages, span := h.addSample(now.LastSeq)
	now.DayUsages, now.DaySeconds = usages, int64(span.Seconds())
	now.Cloned = !h.clonedAt.IsZero()
	idle := now.SameState(h.written)
	if idle && h.longInterval && time.Since(h.writtenAt) < unchangedInterval {
		return
	}
	if !retired { // a retired heartbeat is the last one, and must not wait for a read
		now.NextSeconds = int64(math.Ceil(h.nextInterval(idle).Seconds()))
		now.Cloned = h.isCloned(ctx, key)
	}
	o, err := bucket.NewHeartbeat(key, now)
	if err == nil {
		err = s.store.Put(s.callOptions(ctx), o)
	}
	switch {
	case err == nil:
		h.written, h.writtenAt, h.longInterval = now, time.Now(), idle
		s.countHeartbeat(&s.stats.Heartbeats)
		s.recordSuccess()
		if h.failureKind != "" {
			h.failureKind = ""
			s.opts.Logger.Info("heartbeats are written again", "trouble", "heartbeat", "key", key.HeartbeatKey())
		}
	case ctx.Err() != nil: // stopped
	default:
		kind := "local"
		if failure := (*bucket.Error)(nil); errors.As(err, &failure) {
			kind = failure.Kind
		}
		s.countHeartbeat(&s.stats.HeartbeatFailures)
		if kind == h.failureKind { // a repeated failure is logged at debug level
			s.opts.Logger.Debug("no heartbeat was written", "key", key.HeartbeatKey(), "error", err)
			return
		}
		h.failureKind = kind
		s.opts.Logger.Warn("no heartbeat was written: shipping continues, but an audit knows less of this host (shipper.heartbeat: 0 turns heartbeats off)",
			"trouble", "heartbeat", "destination", s.store.String(), "key", key.HeartbeatKey(), "error", err)
	}
}

// clonedFor is how long the log counts as cloned after another host's heartbeat was
// found: the other host may write only one an hour.
const clonedFor = 3 * unchangedInterval

// isCloned reads the heartbeat that is about to be replaced. It reports whether another host
// writes this log, because data_dir was copied. The sign is a heartbeat of another
// run, unless it was there when this run began: a cache may still return that one.
func (h *heartbeatWriter) isCloned(ctx context.Context, key bucket.Key) bool {
	s := h.shipper
	if h.readForbidden {
		return false
	}
	current, err := bucket.ReadHeartbeat(s.callOptions(ctx), s.store, key)
	switch {
	case err != nil: // a failed read does not prevent the write
		h.readForbidden = isForbidden(err)
	case h.writtenAt.IsZero():
		h.previousRun = current // the first heartbeat read may be that of the previous run
	case current.Run != bucket.HexID(key.Run) && (current.Run != h.previousRun.Run || !current.At.Equal(h.previousRun.At)):
		h.clonedAt = time.Now()
		s.opts.Logger.Warn("another host writes this log, too: data_dir was copied (run collectord ship on one of the two hosts, and start it with a new data_dir)",
			"trouble", "clone", "key", key.HeartbeatKey(), "run", current.Run)
	case !h.clonedAt.IsZero() && time.Since(h.clonedAt) > clonedFor:
		h.clonedAt = time.Time{}
		s.opts.Logger.Info("no other host writes this log any more", "trouble", "clone", "key", key.HeartbeatKey())
	}
	return !h.clonedAt.IsZero()
}

// WriteHeartbeat writes a heartbeat now. retired marks the last one, of a host that has
// shipped everything and is taken out of service. Run must have returned.
func (s *Shipper) WriteHeartbeat(ctx context.Context, retired bool) { s.heartbeats.write(ctx, retired) }

// heartbeat returns the present state of the log and of shipping, and the key of the log.
func (s *Shipper) heartbeat(retired bool) (h bucket.Heartbeat, k bucket.Key, err error) {
	last, below, err := s.log.Progress()
	if err != nil {
		return h, k, err
	}
	st := s.log.Stats()
	k.Node = s.log.Node()
	k.LogID, k.Run = s.log.Identity()
	h = bucket.Heartbeat{
		Version: s.opts.Version, LastSeq: last, ConfirmedBelow: below, Pending: s.log.Ledger().Pending, Retired: retired,
		OldestUnshipped: int64(math.Ceil(st.OldestUnshipped.Seconds())), FreeBytes: st.FreeBytes, At: time.Now(),
		RunSeconds: int64(time.Since(s.began).Seconds()),
	}
	s.mu.Lock()
	h.Vanished = s.stats.Vanished
	s.mu.Unlock()
	if seconds := st.SecondsUntilFull; seconds < math.MaxInt32 {
		rounded := int64(seconds)
		h.SecondsUntilFull = &rounded
	}
	if s.opts.AddHostState != nil {
		s.opts.AddHostState(&h)
	}
	h.Trouble = s.troubles(st, h.Trouble)
	return h, k, nil
}

// troubles returns all current troubles. A message stays the same while its trouble
// lasts. Each of others, which the caller knows, replaces the shipper's own trouble of the
// same name.
func (s *Shipper) troubles(st wal.Stats, others []bucket.Trouble) (all []bucket.Trouble) {
	addUnlessOther := func(name, message string) {
		if !slices.ContainsFunc(others, func(o bucket.Trouble) bool { return o.Name == name }) {
			all = append(all, bucket.Trouble{Name: name, Message: message})
		}
	}
	s.mu.Lock()
	name, kind, isFailing := strings.Cut(s.shippingTrouble, ": ")
	s.mu.Unlock()
	if isFailing {
		addUnlessOther(name, kind)
	}
	switch err := s.log.Full(); {
	case errors.Is(err, wal.ErrFull):
		addUnlessOther("log", "full")
	case errors.Is(err, wal.ErrUnavailable):
		addUnlessOther("log", "not writable")
	}
	if st.PutAside > 0 {
		addUnlessOther("put_aside", strconv.Itoa(st.PutAside))
	}
	return append(all, others...)
}

func (s *Shipper) countHeartbeat(n *uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

// trouble describes what prevents segments from being shipped; empty if nothing does.
func (q *queue) trouble() string {
	switch {
	case q.storageBackoff.bound > 0:
		return "shipping: " + q.lastKind
	case len(q.ownBackoff) > 0:
		return "segment: " + q.lastKind
	}
	return ""
}
