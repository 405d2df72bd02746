package shipper

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/collectord/histogram"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// Options of a Shipper. The zero value of each field stands for its default.
type Options struct {
	SpoolDir string // required; emptied by Run
	Reserve  bool   // the spool keeps room on the disk for an object of the largest segment
	Level    string // "fastest", "default", "better" or "best"
	Version  string // of the program, for heartbeats
	Limits   Limits
	// Host adds to a heartbeat what is known of the host beside its log: its troubles and
	// clients; default: nothing. It is called from one goroutine at a time.
	Host func(h *bucket.Heartbeat)
	// Compress is called before a segment is compressed, which takes a core for as
	// long as it lasts, and what it returns after it; default: nothing.
	Compress func() (done func())
	// Logger gets everything that goes wrong and right again; default: none.
	// What can repeat carries the attribute "trouble" with a name of its own, and
	// so does the Info line at its end, so that a handler can sum up.
	Logger *slog.Logger
}

// Limits are the options that can be changed while the shipper runs.
type Limits struct {
	Concurrency int   // uploads at a time, while others are compressed; default 2
	Bandwidth   int64 // bytes a second that all uploads together may send, and looks read; default: no bound
	// Heartbeat is how often a heartbeat is written to the storage, if something has
	// changed since the one before the last; else one is written once an hour. 0: never.
	Heartbeat time.Duration
	// Keep is how long a segment stays here after the storage has confirmed it: then it
	// is looked whether the storage still has it. 0: it is removed at once.
	Keep time.Duration
	// StallTimeout is how long the storage may neither acknowledge nor answer
	// anything before an upload is given up; default 1 min. How long it takes in
	// all does not matter.
	StallTimeout time.Duration
	// Delays between attempts after a failure. Each is drawn at random between
	// nothing and a bound ("full jitter"), so that a fleet does not come back in
	// step. The bound doubles from RetryMin (default 1 s) to RetryMax (1 min), or
	// to RetryMaxPermanent (5 min) while somebody has to mend something.
	RetryMin, RetryMax, RetryMaxPermanent time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Concurrency == 0 {
		l.Concurrency = 2
	}
	if l.StallTimeout == 0 {
		l.StallTimeout = bucket.DefaultStall
	}
	if l.RetryMin == 0 {
		l.RetryMin = time.Second
	}
	if l.RetryMax == 0 {
		l.RetryMax = time.Minute
	}
	if l.RetryMaxPermanent == 0 {
		l.RetryMaxPermanent = 5 * time.Minute
	}
	return l
}

// Shipper ships sealed segments. Its methods may be called concurrently.
type Shipper struct {
	log       *wal.Log
	store     bucket.Store
	opts      Options
	level     zstd.EncoderLevel
	spool     *spool // opened by Run
	bandwidth bucket.Bandwidth
	heart     heart
	keeper    *keeper

	compressing, uploading stage
	compressors            chan *compressor // that are not in use; at most one for each core is made

	done    chan result // from the workers
	wake    chan struct{}
	uploads *histogram.Histogram
	sizes   sizeLimit
	unread  unreadable
	turned  atomic.Pointer[time.Time]       // when Run's loop last turned; nil while it does not run
	ahead   atomic.Pointer[clockComparison] // the last; nil: not known
	began   time.Time

	mu      sync.Mutex // guards what follows
	limits  Limits
	stats   Stats
	failing string        // what keeps segments from being shipped, for heartbeats
	idle    chan struct{} // closed and replaced after every attempt
}

// Stats are counters and gauges beside the ledger.
type Stats struct {
	Objects         uint64 // confirmed by the storage
	RawBytes        uint64
	CompressedBytes uint64
	UploadSeconds   histogram.Distribution // of uploads that were confirmed
	Failures        map[string]uint64      // by bucket.Error.Kind, or "local"; the usual ones are always there
	Conflicts       uint64                 // keys that held other content
	Reshipped       uint64                 // segments that the storage had lost, and has confirmed again
	Vanished        uint64                 // segments that the storage had confirmed, and are not there and not shipped again
	Salvaged        uint64                 // damaged segments, replaced by what still checked out
	Foreign         int                    // segments of a later version, left alone
	InFlight        int

	Heartbeats, HeartbeatFailures uint64              // written, and not
	Storage                       bucket.Capabilities // as found by the probe
	Destination                   Destination

	ClockAhead    time.Duration // of this host's clock, of the storage's, if ClockCompared
	ClockCompared bool
}

// New makes a shipper, without a look at a disk or the storage. Run starts it.
func New(log *wal.Log, store bucket.Store, o Options) (*Shipper, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Compress == nil {
		o.Compress = func() func() { return func() {} }
	}
	levels := map[string]zstd.EncoderLevel{
		"": zstd.SpeedDefault, "fastest": zstd.SpeedFastest, "default": zstd.SpeedDefault,
		"better": zstd.SpeedBetterCompression, "best": zstd.SpeedBestCompression,
	}
	level, ok := levels[o.Level]
	if !ok {
		return nil, fmt.Errorf("unknown compression level %q", o.Level)
	}
	s := &Shipper{
		log: log, store: store, opts: o, level: level, began: time.Now(),
		compressors: make(chan *compressor, runtime.GOMAXPROCS(0)),
		done:        make(chan result),
		wake:        make(chan struct{}, 1),
		uploads:     histogram.NewLatency(),
		limits:      o.Limits.withDefaults(),
		stats: Stats{Failures: map[string]uint64{
			"local": 0, "network": 0, "timeout": 0, "dns": 0, "tls": 0, "credentials": 0, "proxy": 0, "other": 0, "conflict": 0,
			bucket.NotAStore: 0, bucket.Unproven: 0, bucket.TooLarge: 0, kindDamaged: 0,
			bucket.NotEncrypted: 0, bucket.Unverified: 0,
		}, Destination: Destination{Where: store.String()}},
		idle: make(chan struct{}),
	}
	s.bandwidth.Set(o.Limits.Bandwidth)
	s.heart = heart{shipper: s, changed: make(chan struct{}, 1)}
	s.keeper = newKeeper(s)
	return s, nil
}

// SetLimits puts new limits into effect. Uploads under way are finished; one
// that waits for its next attempt is tried at once.
func (s *Shipper) SetLimits(l Limits) {
	s.mu.Lock()
	s.limits = l.withDefaults()
	s.mu.Unlock()
	s.bandwidth.Set(l.Bandwidth)
	s.retryNow()
	select {
	case s.heart.changed <- struct{}{}:
	default:
	}
	s.keeper.retryNow()
}

// retryNow ends the wait for the next attempt.
func (s *Shipper) retryNow() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Shipper) currentLimits() Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits
}

// Run empties the spool and ships what is sealed, oldest first, until ctx ends. It
// returns once the uploads and looks under way have stopped. What is kept then stays in
// the log.
func (s *Shipper) Run(ctx context.Context) {
	var need func() (largest, sealedAt int64)
	if s.opts.Reserve {
		need = s.log.LargestSegment
	}
	s.spool = openSpool(s.opts.SpoolDir, need, s.opts.Logger)
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { s.heart.run(ctx) })
	others.Go(func() { s.keeper.run(ctx) })
	q := newQueue(s)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	idle := time.NewTicker(pulseInterval)
	defer idle.Stop()
	defer s.turned.Store(nil)
	for {
		now := time.Now()
		s.turned.Store(&now)
		segments, more := s.log.Sealed()
		stopped := ctx.Done()
		if ctx.Err() == nil { // asked once: it may change at any time
			if due := q.start(ctx, now, segments); !due.IsZero() {
				retry.Reset(time.Until(due))
			}
		} else if len(q.busy) == 0 {
			return
		} else {
			stopped, more = nil, nil
		}
		select {
		case <-stopped:
		case <-idle.C:
		case <-more:
		case <-retry.C:
		case <-s.wake:
			q.retryNow()
		case r := <-s.done:
			q.finished(ctx, r)
		}
	}
}

// Drain returns when no sealed segment is left to ship, or when ctx ends, and
// returns how many remain. Run must be running.
func (s *Shipper) Drain(ctx context.Context) (remaining int) {
	s.retryNow()
	for {
		s.mu.Lock()
		idle, foreign, inFlight := s.idle, s.stats.Foreign, s.stats.InFlight
		s.mu.Unlock()
		segments, _ := s.log.Sealed()
		remaining = len(segments)
		if remaining <= foreign && inFlight == 0 { // the last is counted before it is removed
			return remaining
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return remaining
		}
	}
}

// pulseInterval is how often the loop turns when there is nothing to do, and
// pulseLimit how long it may not: nothing in it waits for a disk or the storage.
const (
	pulseInterval = 10 * time.Second
	pulseLimit    = 2 * time.Minute
)

// Alive returns nil while the shipper's loop turns, as it does whether or not
// the storage can be reached. One that was not started, or has ended, is fine.
func (s *Shipper) Alive() error {
	if turned := s.turned.Load(); turned != nil && time.Since(*turned) > pulseLimit {
		return fmt.Errorf("the shipper has been stuck for %v", time.Since(*turned).Round(time.Second))
	}
	return nil
}

// Stats returns a copy of the shipper's counters and gauges.
func (s *Shipper) Stats() Stats {
	storage := s.store.Capabilities()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.stats
	c.UploadSeconds = s.uploads.Seconds()
	c.Failures = maps.Clone(s.stats.Failures)
	c.Storage = storage
	if last := s.ahead.Load(); last != nil && !last.isOutdated(time.Now()) {
		c.ClockAhead, c.ClockCompared = last.ahead, true
	}
	return c
}

// callOptions returns a context for calls of the storage.
func (s *Shipper) callOptions(ctx context.Context) context.Context {
	return bucket.WithCallOptions(ctx, &bucket.CallOptions{
		Bandwidth: &s.bandwidth, StallTimeout: s.currentLimits().StallTimeout, Failing: s.keeper.noteOutage,
		Clock: func(ahead time.Duration) { s.ahead.Store(&clockComparison{ahead, time.Now()}) },
	})
}

// maxKinds bounds the names of failures, which the storage chooses.
const maxKinds = 64

// count counts a failure.
func (s *Shipper) count(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countLocked(kind)
}

func (s *Shipper) countLocked(kind string) {
	if _, known := s.stats.Failures[kind]; !known && len(s.stats.Failures) >= maxKinds {
		kind = "other"
	}
	s.stats.Failures[kind]++
}
