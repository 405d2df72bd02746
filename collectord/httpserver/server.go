package httpserver

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/histogram"
	"collectord/collectord/usage"
	"collectord/wal"
)

// Options set up a Server. The zero value of each field stands for its
// default.
type Options struct {
	Limits    Limits
	Policy    auth.Policy // which clients may send
	MaxHeader int         // bytes of a request's header; default 8 KiB

	MaxBody     int // bytes of a body as sent; default 4 MiB
	MaxDecoded  int // bytes of a body once decoded; default 16 MiB
	MaxRecords  int // usages of a request; default 100,000
	MaxInFlight int // bytes of all bodies together, beyond 4 KiB of each and what small ones share; default 16 MiB

	// Requests with an Idempotency-Key are remembered for that long, and that
	// many; default 10 min, 65,536.
	IdempotencyWindow time.Duration
	IdempotencyKeys   int

	// ProblemBase is the address of docs/problems.md, which the type of a problem links
	// to; default: its path in the source tree. RFC 9457, section 3.1.1, allows both.
	ProblemBase string

	// Whether the admin server answers a path, or nil; and where it listens. A 404 says so.
	AdminServes    func(path string) bool
	AdminAddresses []string

	// Logger is told of everything that goes wrong and right again; default: none.
	// What can repeat carries the attribute "trouble" with a name of its own, and
	// so does the Info line that says it is over, so that a handler can sum up.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.MaxHeader, 8<<10)
	set(&o.MaxBody, 4<<20)
	set(&o.MaxDecoded, 16<<20)
	set(&o.MaxRecords, 100_000)
	set(&o.MaxInFlight, 16<<20)
	set(&o.IdempotencyKeys, 1<<16)
	if o.ProblemBase == "" {
		o.ProblemBase = DefaultProblemBase
	}
	if o.IdempotencyWindow == 0 {
		o.IdempotencyWindow = 10 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server answers POST /api/usages and GET /healthz.
type Server struct {
	log        Log
	opts       Options
	limits     atomic.Pointer[Limits]
	policy     atomic.Pointer[auth.Policy]
	requests   sync.Pool // of *request
	draining   atomic.Bool
	listeners  listeners
	accepted   chan *conn    // for goroutines that wait for one
	parked     chan struct{} // holds one for each of these
	over       chan struct{} // closed: none is to wait any more
	end        sync.Once     // closes it
	loops      atomic.Pointer[[]*loop]
	loopsMade  sync.Mutex // held while they are
	turns      *histogram.Histogram
	workers    workers
	date       dates
	open       connections
	rates      auth.Rates
	clients    auth.Clients
	handshakes handshakes
	statuses   [600]atomic.Uint64
	took       [6]*histogram.Histogram // by class of status

	small       budget // bytes of bodies below smallBody
	inFlight    budget // bytes of bodies beyond
	decoding    budget // bytes of bodies as sent that are being decoded
	storing     budget // bytes that it takes to store what has arrived
	spareBodies [bodySizes]spares[byte]
	largeBodies *mappings
	spareParts  spares[part]
	spareIDs    spares[wal.ID]
	decoders    *decoders
	splitters   *splitters
	window      *window
}

// New makes a server that is not yet listening.
func New(log Log, o Options) *Server {
	o = o.withDefaults()
	h := &Server{
		log: log, opts: o, open: connections{epoch: time.Now()},
		small:       budget{free: smallBodies},
		inFlight:    budget{free: o.MaxInFlight},
		storing:     budget{free: o.maxStored()},
		decoding:    budget{free: o.MaxBody},
		largeBodies: newMappings(max(o.MaxBody, o.MaxDecoded, maxWindow) + zstdSlack), // more than one tells that it is too long
		spareParts:  make(spares[part], spareBuffers),
		spareIDs:    make(spares[wal.ID], spareBuffers),
		decoders:    newDecoders(o.MaxDecoded),
		splitters:   newSplitters(),
		accepted:    make(chan *conn),
		parked:      make(chan struct{}, maxParked),
		over:        make(chan struct{}),
		window:      newWindow(o.IdempotencyKeys, o.IdempotencyWindow),
	}
	h.turns = histogram.New(uint64(10*time.Microsecond), 1, 20)
	h.open.server, h.open.freed = h, sync.NewCond(&h.open.mu)
	for size := range h.spareBodies {
		h.spareBodies[size] = make(spares[byte], spareBuffers)
	}
	h.SetLimits(o.Limits)
	h.SetPolicy(o.Policy)
	for class := range h.took {
		h.took[class] = histogram.NewLatency()
	}
	for _, reason := range reasons() {
		log.Reject(wal.HTTP, reason, 0)
	}
	h.requests.New = func() any {
		r := &request{parts: make([]part, 0, 1), ids: make([]wal.ID, 0, 1)}
		r.records = func(yield func(*wal.Record) bool) { h.eachRecord(r, yield) }
		return r
	}
	return h
}

// StopListening closes the listeners, of which there will be no more. Open
// connections are served on.
func (h *Server) StopListening() {
	h.listeners.close()
	h.open.wakeListeners()
}

// Drain asks clients to go elsewhere: answers close their connections, and
// /healthz says so.
func (h *Server) Drain() { h.draining.Store(true) }

// Shutdown closes the listeners and idle connections, and waits for requests
// under way.
func (h *Server) Shutdown(ctx context.Context) error {
	h.Drain()
	h.StopListening()
	h.end.Do(func() {
		close(h.over)
		h.endLoops()
	})
	select {
	case <-h.open.closed():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reasons are the codes of usages that are refused before the log sees them.
func reasons() []string {
	return append(usage.Codes(), CodeBadRequest, CodeRateLimited, CodeUnauthorized, CodeCrossSite, CodeTimeout, CodeMediaType, CodeEncoding)
}

// Requests returns how many requests were answered, by status. Those that are
// usual are there from the start.
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

// Seconds returns how long requests took from their header to their answer, by
// class of the answer's status: 2, 4 or 5.
func (h *Server) Seconds() map[int]histogram.Distribution {
	return map[int]histogram.Distribution{2: h.took[2].Seconds(), 4: h.took[4].Seconds(), 5: h.took[5].Seconds()}
}

// Connections returns how many connections are open.
func (h *Server) Connections() int {
	n, _ := h.open.count()
	return n
}

// TLSConnections returns how many of them are over TLS.
func (h *Server) TLSConnections() int {
	_, n := h.open.count()
	return n
}

// dates makes the Date of answers, a text for each second.
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
