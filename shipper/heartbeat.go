package shipper

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
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
	failing string           // the kind of the latest failure; empty: none since
	before  bucket.Heartbeat // that was there before the first of this run; zero: none was
	blind   bool             // it may not be read
	cloned  time.Time        // when one of another host was found last; zero: none was, for long
}

// run writes heartbeats until ctx ends.
func (h *heart) run(ctx context.Context) {
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

// beat writes a heartbeat, unless nothing has changed since the last one.
func (h *heart) beat(ctx context.Context, retired bool) {
	s := h.shipper
	now, key, err := s.heartbeat(retired)
	now.Cloned = !h.cloned.IsZero()
	if err != nil || now.Same(h.written) && time.Since(h.at) < unchangedInterval {
		return // a log that has not started has no id
	}
	if !retired { // which may not take long
		now.Cloned = h.isCloned(ctx, key)
	}
	o, err := bucket.NewHeartbeat(key, now)
	if err == nil {
		err = s.store.Put(s.callOptions(ctx), o)
	}
	switch {
	case err == nil:
		h.written, h.at = now, time.Now()
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
		s.opts.Logger.Warn("no heartbeat was written: shipping goes on, and an audit knows less of this host (shipper.heartbeat: 0 turns heartbeats off)",
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
		Version: s.opts.Version, LastSeq: last, ConfirmedBelow: below, Pending: s.log.Ledger().Pending, Trouble: s.trouble(st), Retired: retired,
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
	return h, k, nil
}

// trouble names what does not work, in words that do not change while it goes on.
func (s *Shipper) trouble(st wal.Stats) string {
	var all []string
	s.mu.Lock()
	if s.failing != "" {
		all = append(all, s.failing)
	}
	s.mu.Unlock()
	switch err := s.log.Full(); {
	case errors.Is(err, wal.ErrFull):
		all = append(all, "log: full")
	case errors.Is(err, wal.ErrUnavailable):
		all = append(all, "log: not writable")
	}
	if st.PutAside > 0 {
		all = append(all, fmt.Sprintf("put aside: %d", st.PutAside))
	}
	return strings.Join(all, "; ")
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
