package shipper

import (
	"cmp"
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

// Options configure a Shipper. The zero value of a field stands for its default.
type Options struct {
	SpoolDir string // required; Run deletes old objects in it
	Reserve  bool   // the spool reserves disk space for an object of the largest segment
	Level    string // "fastest", "default", "better" or "best"
	Version  string // of collectord, for heartbeats
	Limits   Limits
	// AddHostState adds to a heartbeat the host's state outside the log: its troubles and
	// clients; default: nothing. Only one goroutine at a time calls it.
	AddHostState func(h *bucket.Heartbeat)
	// OnCompress is called before the compression of a segment, which occupies a core. The
	// function that it returns is called after the compression; default: nothing.
	OnCompress func() (done func())
	// Logger receives each trouble and its end; default: none. The records of a trouble that can
	// repeat, and the Info record at its end, have the attribute "trouble" with the trouble's
	// name, so that a handler can aggregate them.
	Logger *slog.Logger
}

// Limits are the options that can be changed while the shipper runs.
type Limits struct {
	Concurrency int   // max concurrent uploads; other segments are compressed meanwhile; default 2
	Bandwidth   int64 // bytes a second of all uploads, and of reads that check stored objects; default: no limit
	// Heartbeat is the interval of heartbeats; 0: none is written. If the last two were
	// equal and nothing has changed since, none is written for up to an hour.
	Heartbeat time.Duration
	// Keep is how long a segment stays in the log after the storage confirmed its object.
	// Then a look checks that the storage still has the object. 0: the segment is removed at
	// once.
	Keep time.Duration
	// StallTimeout is how long the storage may neither acknowledge nor answer anything
	// before an upload is aborted; default 1 min. The total duration of an upload has no
	// limit.
	StallTimeout time.Duration
	// Delays between attempts after a failure. Each is random between 0 and a bound
	// ("full jitter"), so that a fleet does not retry in step. The bound doubles from
	// RetryMin (default 1 s) to RetryMax (1 min), or to RetryMaxPermanent (5 min) if a
	// person has to correct something.
	RetryMin, RetryMax, RetryMaxPermanent time.Duration
}

func (l Limits) withDefaults() Limits {
	l.Concurrency = cmp.Or(l.Concurrency, 2)
	l.StallTimeout = cmp.Or(l.StallTimeout, bucket.DefaultStall)
	l.RetryMin = cmp.Or(l.RetryMin, time.Second)
	l.RetryMax = cmp.Or(l.RetryMax, time.Minute)
	l.RetryMaxPermanent = cmp.Or(l.RetryMaxPermanent, 5*time.Minute)
	return l
}

// Shipper ships sealed segments. Its methods may be called concurrently.
type Shipper struct {
	log        *wal.Log
	store      bucket.Store
	opts       Options
	level      zstd.EncoderLevel
	spool      *spool // opened by Run
	bandwidth  bucket.Bandwidth
	heartbeats heartbeatWriter
	keeper     *keeper

	compressing, uploading stage
	compressors            chan *compressor // idle ones; at most one for each core exists

	results    chan result // from the workers
	wake       chan struct{}
	uploads    *histogram.Histogram
	sizes      sizeLimit
	unreadable unreadable
	lastTurn   atomic.Pointer[time.Time]       // when Run's loop last turned; nil: it is not running
	clock      atomic.Pointer[clockComparison] // the last comparison; nil: none
	silentAt   atomic.Pointer[time.Time]       // since when the storage is silent; nil: it is not
	began      time.Time

	mu              sync.Mutex // guards the fields below
	limits          Limits
	stats           Stats
	shippingTrouble string        // what prevents segments from being shipped, for heartbeats
	idle            chan struct{} // closed and replaced after every attempt
}

// Stats are the shipper's counters and gauges, without those of the log's ledger.
type Stats struct {
	Objects         uint64 // confirmed by the storage
	RawBytes        uint64
	CompressedBytes uint64
	UploadSeconds   histogram.Distribution // of confirmed uploads
	Failures        map[string]uint64      // by bucket.Error.Kind, or "local"; common kinds are always present
	Conflicts       uint64                 // keys that had other content
	Reshipped       uint64                 // segments that the storage had lost and has confirmed again
	Vanished        uint64                 // segments that the storage had confirmed and lost, and that are not shipped again
	Salvaged        uint64                 // damaged segments that were replaced by their intact records
	Foreign         int                    // segments of a later version, which are not shipped
	InFlight        int

	Heartbeats, HeartbeatFailures uint64              // written ones, and failed ones
	Storage                       bucket.Capabilities // result of the last probe
	Destination                   Destination

	ClockAhead    time.Duration // of the storage's clock; valid if ClockCompared
	ClockCompared bool
}

// New makes a shipper. It accesses neither the disk nor the storage. Run starts the
// shipper.
func New(log *wal.Log, store bucket.Store, o Options) (*Shipper, error) {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.OnCompress == nil {
		o.OnCompress = func() func() { return func() {} }
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
		results:     make(chan result),
		wake:        make(chan struct{}, 1),
		uploads:     histogram.NewLatency(),
		limits:      o.Limits.withDefaults(),
		stats: Stats{Failures: map[string]uint64{
			"local": 0, "network": 0, "timeout": 0, "dns": 0, "tls": 0, "credentials": 0, "proxy": 0, "other": 0, "conflict": 0,
			bucket.NotAStore: 0, bucket.Unproven: 0, bucket.TooLarge: 0, kindDamaged: 0,
			bucket.NotEncrypted: 0, bucket.Unverified: 0,
		}, Destination: Destination{Name: store.String()}},
		idle: make(chan struct{}),
	}
	s.bandwidth.Set(o.Limits.Bandwidth)
	s.heartbeats = heartbeatWriter{shipper: s, limitsChanged: make(chan struct{}, 1)}
	s.keeper = newKeeper(s)
	return s, nil
}

// SetLimits applies new limits. Running uploads finish, and waiting attempts start at
// once.
func (s *Shipper) SetLimits(l Limits) {
	s.mu.Lock()
	s.limits = l.withDefaults()
	s.mu.Unlock()
	s.bandwidth.Set(l.Bandwidth)
	s.retryNow()
	select {
	case s.heartbeats.limitsChanged <- struct{}{}:
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

// Run deletes old objects in the spool and ships sealed segments, oldest first, until ctx
// ends. It returns after the running uploads and looks have stopped. Kept segments stay
// in the log.
func (s *Shipper) Run(ctx context.Context) {
	var reserveSizes func() (largest, sealedAt int64)
	if s.opts.Reserve {
		reserveSizes = s.log.LargestSegment
	}
	s.spool = openSpool(s.opts.SpoolDir, reserveSizes, s.opts.Logger)
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { s.heartbeats.run(ctx) })
	others.Go(func() { s.keeper.run(ctx) })
	q := newQueue(s)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	idle := time.NewTicker(loopInterval)
	defer idle.Stop()
	defer s.lastTurn.Store(nil)
	for {
		now := time.Now()
		s.lastTurn.Store(&now)
		segments, more := s.log.Sealed()
		stopped := ctx.Done()
		if ctx.Err() == nil { // ctx can end at any time, so it is read once a turn
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
		case r := <-s.results:
			q.handleResult(ctx, r)
		}
	}
}

// Drain waits until no sealed segment is left that this version can ship, or until ctx
// ends. It returns the number of segments that remain. Run must be running.
func (s *Shipper) Drain(ctx context.Context) (remaining int) {
	s.retryNow()
	for {
		s.mu.Lock()
		idle, foreign, inFlight := s.idle, s.stats.Foreign, s.stats.InFlight
		s.mu.Unlock()
		segments, _ := s.log.Sealed()
		remaining = len(segments)
		if remaining <= foreign && inFlight == 0 { // the last segment is removed before it is counted
			return remaining
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return remaining
		}
	}
}

// loopInterval is how often Run's loop turns while it is idle. stuckAfter is the max
// duration of a turn: nothing in the loop waits for a disk or the storage.
const (
	loopInterval = 10 * time.Second
	stuckAfter   = 2 * time.Minute
)

// Alive returns an error if Run's loop has not turned for 2 min. An unreachable storage
// is no error, nor is a shipper that has not started or has ended.
func (s *Shipper) Alive() error {
	if lastTurn := s.lastTurn.Load(); lastTurn != nil && time.Since(*lastTurn) > stuckAfter {
		return fmt.Errorf("the shipper has been stuck for %v", time.Since(*lastTurn).Round(time.Second))
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
	if last := s.clock.Load(); last != nil && !last.isOutdated(time.Now()) {
		c.ClockAhead, c.ClockCompared = last.ahead, true
	}
	if since := s.silentAt.Load(); since != nil {
		c.Destination.SilentSince = *since
	}
	return c
}

// callOptions returns a context with the options for calls of the storage.
func (s *Shipper) callOptions(ctx context.Context) context.Context {
	return bucket.WithCallOptions(ctx, &bucket.CallOptions{
		Bandwidth: &s.bandwidth, StallTimeout: s.currentLimits().StallTimeout, OnFailure: s.keeper.recordOutage,
		OnClock: func(ahead time.Duration) { s.clock.Store(&clockComparison{ahead, time.Now()}) },
		OnSilence: func(silent time.Duration) {
			var since *time.Time
			if silent > 0 {
				since = new(time.Now().Add(-silent))
			}
			s.silentAt.Store(since)
		},
	})
}

// maxKinds limits the number of failure kinds, since the storage chooses their names.
const maxKinds = 64

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
