package httpserver

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/histogram"
	"collectord/collectord/usage"
	"collectord/wal"
)

// Options configures a Server. Zero values mean the defaults.
type Options struct {
	Limits    Limits
	Policy    auth.Policy // authentication of clients
	MaxHeader int         // max bytes of a request's header; default 8 KiB

	// RequestBuffer is the size in bytes of the receive buffer that a TCP connection begins
	// with. The kernel doubles it for its own data, and enlarges it only while the server
	// reads. So it holds few bytes of strangers that the server does not read. Default 32 KiB.
	RequestBuffer int

	MaxBody     int // max bytes of a body as sent; default 4 MiB
	MaxDecoded  int // max bytes of a decoded body; default 16 MiB
	MaxRecords  int // max usages in a request; default 100,000
	MaxInFlight int // max bytes of all bodies together, beyond 4 KiB of each and the budget for small ones; default 16 MiB

	// IdempotencyWindow is how long requests with an Idempotency-Key are remembered;
	// default 10 min. IdempotencyKeys is how many are remembered; default 65,536.
	IdempotencyWindow time.Duration
	IdempotencyKeys   int

	// ProblemBase is the address of docs/problems.md, to which the type of a problem
	// links. The default is its path in the source tree. RFC 9457, section 3.1.1, allows
	// both.
	ProblemBase string

	// AdminServes reports whether the admin server serves a path; it may be nil. A 404
	// for such a path contains AdminAddresses, where the admin server listens.
	AdminServes    func(path string) bool
	AdminAddresses []string

	// Logger receives all errors and recoveries; default: none. A line that can repeat
	// has the attribute "trouble" with a unique name. The Info line for its end has the
	// same attribute, so that a handler can summarize both.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.MaxHeader = cmp.Or(o.MaxHeader, 8<<10)
	o.RequestBuffer = cmp.Or(o.RequestBuffer, 32<<10)
	o.MaxBody = cmp.Or(o.MaxBody, 4<<20)
	o.MaxDecoded = cmp.Or(o.MaxDecoded, 16<<20)
	o.MaxRecords = cmp.Or(o.MaxRecords, 100_000)
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 16<<20)
	o.IdempotencyKeys = cmp.Or(o.IdempotencyKeys, 1<<16)
	o.IdempotencyWindow = cmp.Or(o.IdempotencyWindow, 10*time.Minute)
	o.ProblemBase = cmp.Or(o.ProblemBase, DefaultProblemBase)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// Limits can be changed while the server runs. Zero values mean the defaults.
type Limits struct {
	MaxRecord         int           // bytes of a usage; default 1 MiB
	MaxConnections    int           // open connections; default 10,000
	MaxTLSConnections int           // connections over TLS, of MaxConnections; default 1,024
	MaxDescriptors    int           // descriptors of all connections, closing ones included; default: no limit
	HeaderTimeout     time.Duration // max time for a request's header; default 5 s
	BodyRate          int           // min bytes a second of an arriving body; default 1 KiB
	BodyGrace         time.Duration // time before BodyRate applies; default 5 s
	AnswerTimeout     time.Duration // max time for the client to read the answer; default 10 s
	IdleTimeout       time.Duration // max time between requests; default 75 s
	Rate              float64       // max usages a second of all clients together; default: no limit
	Burst             int           // max usages accepted at once; default: one second of Rate
}

func (l Limits) withDefaults() Limits {
	l.MaxRecord = cmp.Or(l.MaxRecord, 1<<20)
	l.MaxConnections = cmp.Or(l.MaxConnections, 10_000)
	l.MaxTLSConnections = cmp.Or(l.MaxTLSConnections, 1024)
	l.HeaderTimeout = cmp.Or(l.HeaderTimeout, 5*time.Second)
	l.BodyRate = cmp.Or(l.BodyRate, 1<<10)
	l.BodyGrace = cmp.Or(l.BodyGrace, 5*time.Second)
	l.AnswerTimeout = cmp.Or(l.AnswerTimeout, 10*time.Second)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 75*time.Second)
	return l
}

// Server answers POST /api/usages and GET /healthz.
type Server struct {
	log          Log
	opts         Options
	limits       atomic.Pointer[Limits]
	policy       atomic.Pointer[auth.Policy]
	requests     sync.Pool // holds *request
	draining     atomic.Bool
	listeners    listeners
	handoff      chan *conn    // passes connections to idle goroutines
	parked       chan struct{} // has an element for each idle goroutine
	shutdown     chan struct{} // closed at shutdown, to end idle goroutines
	shutdownOnce sync.Once     // closes shutdown
	loops        atomic.Pointer[[]*loop]
	loopsMu      sync.Mutex // guards starting and ending loops
	turns        *histogram.Histogram
	workers      workers
	date         dates
	conns        connections
	rates        auth.Rates
	clients      auth.Clients
	handshakes   handshakes
	statuses     [600]atomic.Uint64
	latencies    [6]*histogram.Histogram // indexed by class of status

	small       budget // bytes of bodies up to smallBodyBytes
	inFlight    budget // bytes of bodies beyond smallBodyBytes
	decoding    budget // bytes of bodies as sent, while they are decoded
	storing     budget // bytes for storing requests that have arrived
	spareBodies [sizeClasses]spares[byte]
	largeBodies *mappings
	spareRanges spares[byteRange]
	spareIDs    spares[wal.ID]
	decoders    *decoders
	splitters   *splitters
	window      *window
}

// New returns a Server that is not listening yet.
func New(log Log, o Options) *Server {
	o = o.withDefaults()
	h := &Server{
		log: log, opts: o, conns: connections{epoch: time.Now(), spareWanted: make(chan struct{}, 1)},
		small:       budget{free: smallBodiesBytes},
		inFlight:    budget{free: o.MaxInFlight},
		storing:     budget{free: o.maxStoringBytes()},
		decoding:    budget{free: o.MaxBody},
		largeBodies: newMappings(max(o.MaxBody, o.MaxDecoded, maxWindow) + zstdSlack), // room for a body that exceeds its limit
		spareRanges: make(spares[byteRange], maxSpareBuffers),
		spareIDs:    make(spares[wal.ID], maxSpareBuffers),
		decoders:    newDecoders(o.MaxDecoded),
		splitters:   newSplitters(),
		handoff:     make(chan *conn),
		parked:      make(chan struct{}, maxParked),
		shutdown:    make(chan struct{}),
		window:      newWindow(o.IdempotencyKeys, o.IdempotencyWindow),
	}
	h.turns = histogram.New(uint64(10*time.Microsecond), 1, 20)
	h.conns.server, h.conns.descriptorFreed = h, sync.NewCond(&h.conns.mu)
	for size := range h.spareBodies {
		h.spareBodies[size] = make(spares[byte], maxSpareBuffers)
	}
	h.SetLimits(o.Limits)
	h.SetPolicy(o.Policy)
	for class := range h.latencies {
		h.latencies[class] = histogram.NewLatency()
	}
	for _, reason := range rejectReasons() {
		log.Reject(wal.HTTP, reason, 0)
	}
	h.requests.New = func() any {
		r := &request{ranges: make([]byteRange, 0, 1), ids: make([]wal.ID, 0, 1)}
		r.records = func(yield func(*wal.Record) bool) { h.eachRecord(r, yield) }
		return r
	}
	return h
}

// SetLimits replaces the limits. A connection's deadlines and the limits of a request
// apply from its next state or request on. The numbers of connections and the rate apply
// at once. Open connections stay open, unless a lower MaxDescriptors makes some end.
func (h *Server) SetLimits(l Limits) {
	l = l.withDefaults()
	h.limits.Store(&l)
	h.conns.wakeListeners()
	h.rates.SetOverall(l.Rate, l.Burst, time.Now())
}

// StopListening closes the listeners, and later calls of Serve end at once. Open
// connections continue.
func (h *Server) StopListening() {
	h.listeners.close()
	h.conns.wakeListeners()
}

// Drain makes every answer close its connection and /healthz report "draining", so that
// clients use another server.
func (h *Server) Drain() { h.draining.Store(true) }

// Shutdown closes the listeners and idle connections, and waits for requests under way.
// If ctx ends first, it returns the error of ctx.
func (h *Server) Shutdown(ctx context.Context) error {
	h.Drain()
	h.StopListening()
	h.shutdownOnce.Do(func() {
		close(h.shutdown)
		h.endLoops()
	})
	select {
	case <-h.conns.shutDown():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rejectReasons returns the codes of usages that are rejected before the log receives them.
func rejectReasons() []string {
	return append(usage.Codes(), CodeBadRequest, CodeRateLimited, CodeUnauthorized, CodeCrossSite, CodeTimeout, CodeMediaType, CodeEncoding)
}

// Requests returns how many requests were answered, by status. Common statuses are
// present from the start.
func (h *Server) Requests() map[int]uint64 {
	m := map[int]uint64{
		http.StatusOK: 0, http.StatusCreated: 0, http.StatusBadRequest: 0, http.StatusRequestEntityTooLarge: 0,
		http.StatusUnauthorized:        0,
		http.StatusTooManyRequests:     0,
		http.StatusInternalServerError: 0, http.StatusServiceUnavailable: 0,
	}
	for status := range h.statuses {
		if n := h.statuses[status].Load(); n > 0 {
			m[status] = n
		}
	}
	return m
}

// Latencies returns how long requests took from their header to their answer, by class of
// status: 2, 4 or 5.
func (h *Server) Latencies() map[int]histogram.Distribution {
	return map[int]histogram.Distribution{2: h.latencies[2].Seconds(), 4: h.latencies[4].Seconds(), 5: h.latencies[5].Seconds()}
}

// Connections returns how many connections are open, including those over TLS.
func (h *Server) Connections() int {
	n, _ := h.conns.counts()
	return n
}

// TLSConnections returns how many connections over TLS are open.
func (h *Server) TLSConnections() int {
	_, n := h.conns.counts()
	return n
}

// maxBodyTime returns how long n bytes of a body may take.
func (l *Limits) maxBodyTime(n int) time.Duration {
	return l.BodyGrace + time.Duration(n)*time.Second/time.Duration(l.BodyRate)
}

// reservedDescriptors returns how many of MaxDescriptors are reserved for connections that
// make room, linger, or are turned away.
func (l *Limits) reservedDescriptors() int {
	return min(maxTurnAways+64, l.MaxDescriptors/4)
}

// maxOpen returns how many connections may be open, not counting those that are closing.
func (l *Limits) maxOpen() int { return min(l.MaxConnections, l.maxWithDescriptors()) }

// maxSecure returns how many connections may be over TLS.
func (l *Limits) maxSecure() int { return min(l.MaxTLSConnections, l.maxOpen()) }

// maxWithDescriptors returns how many open connections MaxDescriptors suffices for.
func (l *Limits) maxWithDescriptors() int {
	if l.MaxDescriptors == 0 {
		return math.MaxInt
	}
	return max(1, l.MaxDescriptors-l.reservedDescriptors())
}

// maxTurningAway returns how many connections that are turned away may stay open for their
// answer.
func (l *Limits) maxTurningAway() int32 {
	if l.MaxDescriptors == 0 {
		return maxTurnAways
	}
	return int32(min(maxTurnAways, l.reservedDescriptors()/2))
}

// dates formats the Date of answers, once a second.
type dates struct{ latest atomic.Pointer[date] }

type date struct {
	second int64
	text   string
}

func (d *dates) at(now time.Time) string {
	second := now.Unix()
	latest := d.latest.Load()
	if latest == nil || latest.second != second {
		latest = &date{second, now.UTC().Format(http.TimeFormat)}
		d.latest.Store(latest)
	}
	return latest.text
}
