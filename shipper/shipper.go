package shipper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/wal"
)

// Options of a Shipper. The zero value of each field stands for its default.
type Options struct {
	SpoolDir string // required; emptied by New
	Reserve  int64  // bytes of the spool's reserve; the size of a segment is enough; default none
	Level    string // "fastest", "default", "better" or "best"
	Limits   Limits
	// Logger is told of everything that goes wrong and right again; default: none.
	// What can repeat carries the attribute "trouble" with a name of its own, and
	// so does the Info line that says it is over, so that a handler can sum up.
	Logger *slog.Logger
}

// Limits are the options that can be changed while the shipper runs.
type Limits struct {
	Concurrency int // uploads at a time; default 2
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
	log   *wal.Log
	store Store
	opts  Options
	level zstd.EncoderLevel
	spool *spool

	done    chan result // from the workers
	nudge   chan struct{}
	uploads *wal.Histogram
	turned  atomic.Pointer[time.Time] // when Run's loop last turned; nil while it does not run

	mu     sync.Mutex // guards what follows
	limits Limits
	stats  Stats
	idle   chan struct{} // closed and replaced after every attempt
}

// Stats are counters and gauges beside the ledger.
type Stats struct {
	Objects         uint64 // confirmed by the storage
	RawBytes        uint64
	CompressedBytes uint64
	UploadSeconds   wal.Distribution  // of uploads that were confirmed
	Failures        map[string]uint64 // by StoreError.Kind, or "local"; the usual ones are always there
	Conflicts       uint64            // keys that held other content
	Salvaged        uint64            // damaged segments, replaced by what still checked out
	Foreign         int               // segments of a later version, left alone
	InFlight        int
}

type result struct {
	segment    *wal.Segment
	compressor *compressor
	err        error
}

// New makes a shipper and empties its spool directory. Run starts it.
func New(log *wal.Log, store Store, o Options) (*Shipper, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	levels := map[string]zstd.EncoderLevel{
		"": zstd.SpeedDefault, "fastest": zstd.SpeedFastest, "default": zstd.SpeedDefault,
		"better": zstd.SpeedBetterCompression, "best": zstd.SpeedBestCompression,
	}
	level, ok := levels[o.Level]
	if !ok {
		return nil, fmt.Errorf("unknown compression level %q", o.Level)
	}
	spool, err := openSpool(o.SpoolDir, o.Reserve, o.Logger)
	if err != nil {
		return nil, err
	}
	return &Shipper{
		log: log, store: store, opts: o, level: level, spool: spool,
		done:    make(chan result),
		nudge:   make(chan struct{}, 1),
		uploads: wal.NewLatencyHistogram(),
		limits:  o.Limits.withDefaults(),
		stats:   Stats{Failures: map[string]uint64{"local": 0, "network": 0, "timeout": 0, "tls": 0, "other": 0, "conflict": 0}},
		idle:    make(chan struct{}),
	}, nil
}

// SetLimits puts new limits into effect. Uploads under way are finished; one
// that waits for its next attempt is tried at once.
func (s *Shipper) SetLimits(l Limits) {
	s.mu.Lock()
	s.limits = l.withDefaults()
	s.mu.Unlock()
	s.hurry()
}

// hurry ends the wait for the next attempt.
func (s *Shipper) hurry() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

func (s *Shipper) currentLimits() Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits
}

// Run ships what is sealed, oldest first, until ctx ends. It returns once the
// uploads under way have stopped.
func (s *Shipper) Run(ctx context.Context) {
	q := &queue{shipper: s, busy: map[*wal.Segment]bool{}, setAside: map[*wal.Segment]bool{}, tried: map[*wal.Segment]int{}}
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
			q.start(ctx, segments)
		} else if len(q.busy) == 0 {
			return
		} else {
			stopped, more = nil, nil
		}
		if wait := time.Until(q.resume); q.pause > 0 && wait > 0 {
			retry.Reset(wait)
		}
		select {
		case <-stopped:
		case <-idle.C:
		case <-more:
		case <-retry.C:
			q.resume = time.Time{}
		case <-s.nudge:
			q.resume = time.Time{}
		case r := <-s.done:
			q.finished(ctx, r)
		}
	}
}

// Drain returns when no sealed segment is left to ship, or when ctx ends, and
// says how many remain. Run must be running.
func (s *Shipper) Drain(ctx context.Context) (remaining int) {
	s.hurry()
	for {
		s.mu.Lock()
		idle, foreign, inFlight := s.idle, s.stats.Foreign, s.stats.InFlight
		s.mu.Unlock()
		segments, _ := s.log.Sealed()
		remaining = len(segments)
		if remaining <= foreign && inFlight == 0 { // the last is off the books before it is cleared away
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
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.stats
	c.UploadSeconds = s.uploads.Seconds()
	c.Failures = maps.Clone(s.stats.Failures)
	return c
}

// queue is what Run knows of the segments. Only its goroutine uses it.
type queue struct {
	shipper  *Shipper
	busy     map[*wal.Segment]bool
	setAside map[*wal.Segment]bool // of a later version
	tried    map[*wal.Segment]int  // failed attempts
	free     []*compressor         // of uploads that ended; others are made when needed
	pause    time.Duration         // bound of the last delay; 0 while all is well
	resume   time.Time
	failing  bool // since the last success
}

// start begins as many uploads as there is room for. While the storage fails
// there is room for one, and the segments take turns, so that one the storage
// will not have does not keep the others waiting.
func (q *queue) start(ctx context.Context, segments []*wal.Segment) {
	limit := q.shipper.currentLimits().Concurrency
	q.free = q.free[:min(len(q.free), limit)]
	if q.pause > 0 {
		if limit = 1; time.Now().Before(q.resume) {
			return
		}
	}
	for len(q.busy) < limit {
		var next *wal.Segment // nil stands for the loss notes
		notes := !q.busy[nil] && q.shipper.log.Stats().LossNotes > 0
		for _, seg := range segments {
			if !q.busy[seg] && !q.setAside[seg] && (next == nil || q.tried[seg] < q.tried[next]) {
				next = seg
			}
		}
		switch {
		case notes && (next == nil || q.tried[nil] <= q.tried[next]):
			next = nil
		case next == nil:
			return
		case !next.Hold():
			return // it is being evicted: there will be news of it
		}
		q.busy[next] = true
		var c *compressor
		if n := len(q.free); n > 0 {
			c, q.free = q.free[n-1], q.free[:n-1]
		}
		s := q.shipper
		s.mu.Lock()
		s.stats.InFlight++
		s.mu.Unlock()
		go func() {
			var err error
			if next == nil {
				err = s.shipLosses(ctx)
			} else {
				err = s.ship(ctx, next, &c)
				next.Release()
			}
			s.done <- result{next, c, err}
		}()
	}
}

// finished notes how an attempt ended.
func (q *queue) finished(ctx context.Context, r result) {
	s := q.shipper
	delete(q.busy, r.segment)
	if r.compressor != nil {
		q.free = append(q.free, r.compressor)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.InFlight--
	close(s.idle)
	s.idle = make(chan struct{})

	name := "loss notes"
	if r.segment != nil {
		name = r.segment.String()
	}
	switch {
	case r.err == nil:
		delete(q.tried, r.segment)
		q.pause = 0
		if q.failing {
			q.failing = false
			s.opts.Logger.Info("shipping again", "trouble", "shipping", "destination", s.store.String())
		}
	case ctx.Err() != nil: // told to stop
	case errors.Is(r.err, errSalvaged):
		s.stats.Salvaged++
	case errors.Is(r.err, wal.ErrVersion):
		q.setAside[r.segment] = true
		s.stats.Foreign++
		s.opts.Logger.Error("left alone a sealed segment of a later version: install that version to ship it",
			"segment", name, "error", r.err)
	default:
		q.tried[r.segment]++
		kind, most := "local", s.limits.RetryMax
		var storeErr *StoreError
		if errors.As(r.err, &storeErr) {
			kind = storeErr.Kind
			if storeErr.Permanent {
				most = s.limits.RetryMaxPermanent
			}
		}
		s.stats.Failures[kind]++
		q.pause = min(max(2*q.pause, s.limits.RetryMin), most)
		q.resume = time.Now().Add(rand.N(q.pause))
		q.failing = true
		s.opts.Logger.Error("can't ship: everything is kept and tried again", "trouble", "shipping",
			"destination", s.store.String(), "segment", name, "error", r.err)
	}
}

// errSalvaged says that other segments took the place of the one to ship.
var errSalvaged = errors.New("salvaged")

// ship brings one segment to the storage and removes it here.
func (s *Shipper) ship(ctx context.Context, seg *wal.Segment, c **compressor) error {
	if *c == nil {
		var err error
		if *c, err = newCompressor(s.level); err != nil {
			return err
		}
	}
	o, done, err := s.spool.object(ctx, *c, seg)
	var damage *wal.DamageError
	if errors.As(err, &damage) && !errors.Is(err, wal.ErrVersion) || errors.Is(err, fs.ErrNotExist) {
		changed, salvageErr := s.log.Salvage(seg)
		if changed {
			return errSalvaged
		}
		err = errors.Join(err, salvageErr)
	}
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	defer done()
	began := time.Now()
	err = s.store.Put(ctx, o)
	if errors.Is(err, ErrExists) {
		err = s.settle(ctx, o)
	}
	if err != nil {
		return err
	}
	s.uploads.ObserveTime(time.Since(began))
	if err := seg.Remove(); err != nil {
		return err
	}
	if err := s.spool.stock(); err != nil {
		s.opts.Logger.Debug("no room for a reserve yet", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Objects++
	s.stats.RawBytes += uint64(o.RawBytes)
	s.stats.CompressedBytes += uint64(o.Size)
	s.opts.Logger.Debug("shipped", "key", o.Key, "records", o.Records, "bytes", o.Size)
	return nil
}

// settle decides what to do about a key that is taken: an object with the same
// lines is ours, from before a crash or a lost answer; other content stays, and
// ours goes beside it.
func (s *Shipper) settle(ctx context.Context, o *Object) error {
	same, err := s.holds(ctx, o)
	if same || err != nil {
		return err
	}
	taken := o.Key
	o.Key = strings.TrimSuffix(taken, ".ndjson.zst") + "~" + o.SHA256[:8] + ".ndjson.zst"
	err = s.store.Put(ctx, o)
	if errors.Is(err, ErrExists) {
		if same, err = s.holds(ctx, o); err == nil && !same {
			err = &StoreError{
				Op: "put", Key: o.Key, Kind: "conflict", Permanent: true, Err: ErrExists,
				Hint: "both this name and the plain one hold other content",
			}
		}
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.stats.Conflicts++
	s.mu.Unlock()
	s.opts.Logger.Error("the storage holds other content under this segment's name: stored beside it",
		"trouble", "conflict", "taken", taken, "stored", o.Key)
	return nil
}

// holds reports whether the storage has the same lines under the object's key.
func (s *Shipper) holds(ctx context.Context, o *Object) (bool, error) {
	there, err := s.store.Stat(ctx, o.Key)
	if err != nil {
		return false, err
	}
	if there.SHA256 != "" {
		return there.sameContent(o.Metadata), nil
	}
	body, err := s.store.Open(ctx, o.Key)
	if err != nil {
		return false, err
	}
	defer body.Close()
	lines, err := NewObjectReader(body)
	if err != nil {
		return false, err
	}
	defer lines.Close()
	for {
		switch _, err := lines.Next(); {
		case errors.Is(err, io.EOF):
			return lines.Seen().sameContent(o.Metadata), nil
		case errors.Is(err, zstd.ErrMagicMismatch), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, zstd.ErrCRCMismatch):
			return false, nil // something else altogether
		case err != nil:
			return false, err
		}
	}
}
