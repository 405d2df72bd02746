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

// How often a heartbeat is written while nothing changes, and how long after a start,
// when there is much else to do, or no network yet, the first one is.
const (
	unchangedInterval = time.Hour
	firstHeartbeat    = 10 * time.Second
)

// heart writes the heartbeats of the log. What becomes of them concerns nothing else.
// One goroutine at a time uses it.
type heart struct {
	shipper *Shipper
	changed chan struct{} // the limits; holds one

	written bucket.Heartbeat // the latest that the storage took
	at      time.Time        // when that was
	idle    bool             // written says that the next one may take as long as nothing changes
	failing string           // the kind of the latest failure; empty: none since
	before  bucket.Heartbeat // that was there before the first of this run; zero: none was
	blind   bool             // it may not be read
	cloned  time.Time        // when one of another host was found last; zero: none was, for long
	day     []sample         // of the last day, the oldest first
}

// sample is the last acknowledged seq at a time.
type sample struct {
	at   time.Time
	last uint64
}

// Usages a day are known by samples that are so far apart.
const (
	day         = 24 * time.Hour
	sampleEvery = 30 * time.Minute
)

// run writes heartbeats until ctx ends.
func (h *heart) run(ctx context.Context) {
	if last, _, err := h.shipper.log.Progress(); err == nil {
		h.sampled(last)
	}
	// A fleet that was started at one moment must not write at one moment for ever.
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
		case <-h.changed:
		case <-due:
			h.beat(ctx, false)
			if wait = every; first {
				wait, first = rand.N(every), false
			}
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// sampled returns how many usages were acknowledged in the last day, and in how much of it.
func (h *heart) sampled(last uint64) (usages uint64, span time.Duration) {
	now := time.Now()
	if n := len(h.day); n == 0 || now.Sub(h.day[n-1].at) >= sampleEvery {
		h.day = append(h.day, sample{now, last})
	}
	for len(h.day) > 1 && now.Sub(h.day[1].at) >= day {
		h.day = h.day[1:]
	}
	return last - min(last, h.day[0].last), now.Sub(h.day[0].at)
}

// next is within how much time the next heartbeat is written if all is well. One that
// follows a change is followed by another after the interval, whatever happens, so that a
// host which fell silent while it was busy is missed soon.
func (h *heart) next(idle bool) time.Duration {
	every := h.shipper.currentLimits().Heartbeat
	if idle && every > 0 {
		return unchangedInterval + every
	}
	return every
}

// beat writes a heartbeat, unless nothing has changed since the last one, and that said
// that it may take long.
func (h *heart) beat(ctx context.Context, retired bool) {
	s := h.shipper
	now, key, err := s.heartbeat(retired)
	if err != nil {
		return // a log that has not started has no id
	}
	usages, span := h.sampled(now.LastSeq)
	now.DayUsages, now.DaySeconds = usages, int64(span.Seconds())
	now.Cloned = !h.cloned.IsZero()
	idle := now.Same(h.written)
	if idle && h.idle && time.Since(h.at) < unchangedInterval {
		return
	}
	if !retired { // which may not take long, and has no next
		now.NextSeconds = int64(math.Ceil(h.next(idle).Seconds()))
		now.Cloned = h.isCloned(ctx, key)
	}
	o, err := bucket.NewHeartbeat(key, now)
	if err == nil {
		err = s.store.Put(s.callOptions(ctx), o)
	}
	switch {
	case err == nil:
		h.written, h.at, h.idle = now, time.Now(), idle
		s.countHeartbeat(&s.stats.Heartbeats)
		s.succeeded()
		if h.failing != "" {
			h.failing = ""
			s.opts.Logger.Info("heartbeats are written again", "trouble", "heartbeat", "key", key.HeartbeatKey())
		}
	case ctx.Err() != nil: // stopped
	default:
		kind := "local"
		if failure := (*bucket.Error)(nil); errors.As(err, &failure) {
			kind = failure.Kind
		}
		s.countHeartbeat(&s.stats.HeartbeatFailures)
		if kind == h.failing { // once is enough, as long as it goes on
			s.opts.Logger.Debug("no heartbeat was written", "key", key.HeartbeatKey(), "error", err)
			return
		}
		h.failing = kind
		s.opts.Logger.Warn("no heartbeat was written: that does not hold up shipping, but an audit knows less of this host (shipper.heartbeat: 0 turns heartbeats off)",
			"trouble", "heartbeat", "destination", s.store.String(), "key", key.HeartbeatKey(), "error", err)
	}
}

// clonedFor is how long another host counts as writing this log once that was seen: it may
// write one an hour.
const clonedFor = 3 * unchangedInterval

// isCloned looks at what is to be replaced, and reports whether another host writes this
// log, which has copied it: then it is neither the latest of this run nor what was there
// before, as a cache may return it.
func (h *heart) isCloned(ctx context.Context, key bucket.Key) bool {
	s := h.shipper
	if h.blind {
		return false
	}
	there, err := bucket.ReadHeartbeat(s.callOptions(ctx), s.store, key)
	switch {
	case err != nil: // that concerns nothing else
		h.blind = isForbidden(err)
	case h.at.IsZero():
		h.before = there // which may be that of the run before this one
	case there.Run != bucket.HexID(key.Run) && (there.Run != h.before.Run || !there.At.Equal(h.before.At)):
		h.cloned = time.Now()
		s.opts.Logger.Warn("another host writes this log, too: data_dir was copied (run collectord ship on one of them, and start it with a new data_dir)",
			"trouble", "clone", "key", key.HeartbeatKey(), "run", there.Run)
	case !h.cloned.IsZero() && time.Since(h.cloned) > clonedFor:
		h.cloned = time.Time{}
		s.opts.Logger.Info("no other host writes this log any more", "trouble", "clone", "key", key.HeartbeatKey())
	}
	return !h.cloned.IsZero()
}

// WriteHeartbeat writes a heartbeat at once, as the last one if retired: all is
// shipped, and the host is taken out of service. Run must have returned.
func (s *Shipper) WriteHeartbeat(ctx context.Context, retired bool) { s.heart.beat(ctx, retired) }

// heartbeat is the state of the log and of shipping, now, and the name of the log.
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
		whole := int64(seconds)
		h.SecondsUntilFull = &whole
	}
	if s.opts.Host != nil {
		s.opts.Host(&h)
	}
	h.Trouble = s.troubles(st, h.Trouble)
	return h, k, nil
}

// troubles are what does not work, in words that do not change while it goes on: what
// the rest of the host knows of one counts rather than what is known here.
func (s *Shipper) troubles(st wal.Stats, others []bucket.Trouble) (all []bucket.Trouble) {
	add := func(name, message string) {
		if !slices.ContainsFunc(others, func(o bucket.Trouble) bool { return o.Name == name }) {
			all = append(all, bucket.Trouble{Name: name, Message: message})
		}
	}
	s.mu.Lock()
	name, kind, fails := strings.Cut(s.failing, ": ")
	s.mu.Unlock()
	if fails {
		add(name, kind)
	}
	switch err := s.log.Full(); {
	case errors.Is(err, wal.ErrFull):
		add("log", "full")
	case errors.Is(err, wal.ErrUnavailable):
		add("log", "not writable")
	}
	if st.PutAside > 0 {
		add("put_aside", strconv.Itoa(st.PutAside))
	}
	return append(all, others...)
}

func (s *Shipper) countHeartbeat(n *uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

// trouble is what keeps segments from being shipped; empty if nothing does.
func (q *queue) trouble() string {
	switch {
	case q.storage.bound > 0:
		return "shipping: " + q.kind
	case len(q.own) > 0:
		return "segment: " + q.kind
	}
	return ""
}
