package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

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
	if o.IdempotencyWindow == 0 {
		o.IdempotencyWindow = 10 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server answers POST /api/usages and GET /healthz.
//
// It runs on fasthttp, set up so that nothing is held that did not arrive: bodies
// are read through the stream only, never by their declared length.
type Server struct {
	log        Log
	opts       Options
	limits     atomic.Pointer[Limits]
	policy     atomic.Pointer[auth.Policy]
	server     *fasthttp.Server
	requests   sync.Pool // of *request
	draining   atomic.Bool
	ears       ears
	open       connections
	rates      auth.Rates
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
		storing:     budget{free: o.mostStored()},
		decoding:    budget{free: o.MaxBody},
		largeBodies: newMappings(max(o.MaxBody, o.MaxDecoded, maxWindow) + zstdSlack), // more than one tells that it is too long
		spareParts:  make(spares[part], spareBuffers),
		spareIDs:    make(spares[wal.ID], spareBuffers),
		decoders:    newDecoders(o.MaxDecoded),
		splitters:   newSplitters(),
		window:      newWindow(o.IdempotencyKeys, o.IdempotencyWindow),
	}
	h.open.door, h.open.freed = h, sync.NewCond(&h.open.mu)
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
		r := &request{body: make([]byte, 0, firstBuffer), parts: make([]part, 0, 1), ids: make([]wal.ID, 0, 1)}
		r.records = func(yield func(*wal.Record) bool) { h.eachRecord(r, yield) }
		return r
	}
	h.server = &fasthttp.Server{
		Handler:        h.handle,
		ErrorHandler:   h.brokenRequest,
		HeaderReceived: h.headerReceived,
		ExpectHandler:  h.expect,
		Logger:         silent{},

		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		ReadBufferSize:               o.MaxHeader,
		// Limits that can change are set where they are needed: by the listener,
		// which turns away what is beyond MaxConnections, and by the states of a
		// connection. The server itself has no timeouts.
		ConnState:             connected,
		Concurrency:           math.MaxInt32,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		SecureErrorLogMessage: true,
		LazyRequestTime:       true,
	}
	return h
}

// silent replaces the server's logger, which would print parts of requests.
type silent struct{}

func (silent) Printf(string, ...any) {}

// Serve takes ln over and answers on it until StopListening or Shutdown.
func (h *Server) Serve(ln net.Listener) error {
	prepare(ln)
	addr := ln.Addr()
	ln, err := takeOver(ln)
	if err == nil {
		err = h.server.Serve(h.ears.add(&limitedListener{Listener: ln, door: h}))
	}
	if err != nil {
		return fmt.Errorf("http listener %s: %w", addr, err)
	}
	return nil
}

// StopListening closes the listeners, of which there will be no more. Open
// connections are served on.
func (h *Server) StopListening() { h.ears.close() }

// Drain asks clients to go elsewhere: answers close their connections, and
// /healthz says so.
func (h *Server) Drain() { h.draining.Store(true) }

// Shutdown closes the listeners and idle connections, and waits for requests
// under way.
func (h *Server) Shutdown(ctx context.Context) error {
	h.Drain()
	return h.server.ShutdownWithContext(ctx)
}

// reasons are the codes of usages that are refused before the log sees them.
func reasons() []string {
	return append(usage.Codes(), CodeBadRequest, CodeRateLimited, CodeUnauthorized, CodeCrossSite, CodeTimeout, CodeMediaType, CodeEncoding, CodeInternal)
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
func (h *Server) Connections() int { return h.open.count() }

func (h *Server) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	conn := connectionOf(ctx)
	asked, p := h.readHeader(ctx)
	unread := leavesBody(ctx)
	switch path := string(ctx.URI().PathOriginal()); {
	case p != nil:
	case path == usagesPath && ctx.IsPost():
		p = h.usages(ctx, asked)
		unread = false // or it is a problem that closes the connection
	case path == usagesPath:
		p = wrongMethod()
	case path == "/healthz":
		p = h.health(ctx)
	default:
		p = notFound()
	}
	if p != nil {
		write(ctx, p)
	}
	if unread {
		closeUnread(ctx)
	}
	if h.draining.Load() || conn.isLast() {
		ctx.SetConnectionClose()
	}
	status := ctx.Response.StatusCode()
	h.statuses[status].Add(1)
	h.took[status/100].ObserveTime(time.Since(began))
	conn.enter(stateWriting)
}

// leavesBody reports whether a request has a body that the server has not read to
// its end before the handler runs.
func leavesBody(ctx *fasthttp.RequestCtx) bool {
	n := ctx.Request.Header.ContentLength()
	return n == unreadLength || n > prefetched // the former also of a body in chunks
}

// closeUnread ends the connection with the answer: what is left of the body must
// not be read as a request.
func closeUnread(ctx *fasthttp.RequestCtx) {
	ctx.SetConnectionClose()
	if c := connectionOf(ctx); c != nil {
		c.linger.Store(true)
	}
}

const usagesPath = "/api/usages"

func notFound() *problem {
	return &problem{status: http.StatusNotFound, code: CodeNotFound, detail: "usages are posted to " + usagesPath}
}

// readHeader reads what matters here, and refuses what no one should have to
// guess at.
func (h *Server) readHeader(ctx *fasthttp.RequestCtx) (asked header, p *problem) {
	switch string(ctx.Request.Header.Protocol()) {
	case "HTTP/1.1", "HTTP/1.0":
	default:
		return asked, &problem{status: http.StatusHTTPVersionNotSupported, code: CodeVersion, detail: "use HTTP/1.1 or HTTP/1.0", close: true}
	}
	if asked, p = readHeader(&ctx.Request.Header); p == nil {
		if why := connectionOf(ctx).badlyFramed(); why != "" {
			p = badFraming(why)
		}
	}
	if p == nil && len(asked.expect) > 0 && ctx.Request.Header.IsHTTP11() && !is(asked.expect, "100-continue") {
		p = &problem{status: http.StatusExpectationFailed, code: CodeExpectation, detail: "the only expectation is 100-continue", close: true}
	}
	if p != nil && ctx.IsPost() && string(ctx.URI().PathOriginal()) == usagesPath {
		h.log.Reject(wal.HTTP, p.code, 1)
	}
	return asked, p
}

func write(ctx *fasthttp.RequestCtx, p *problem) {
	ctx.SetStatusCode(p.status)
	ctx.SetContentType(problemType)
	if p.header[0] != "" {
		ctx.Response.Header.Set(p.header[0], p.header[1])
	}
	if p.close {
		closeUnread(ctx)
	}
	ctx.SetBody(p.body())
}

func (h *Server) health(ctx *fasthttp.RequestCtx) *problem {
	if !ctx.IsGet() && !ctx.IsHead() {
		return &problem{status: http.StatusMethodNotAllowed, code: CodeMethod, header: [2]string{"Allow", "GET, HEAD"}}
	}
	word, status := "ok", http.StatusOK
	switch {
	case h.draining.Load():
		word, status = "draining", http.StatusServiceUnavailable
	case errors.Is(h.log.Full(), ErrStarting):
		word, status = "starting", http.StatusServiceUnavailable
	case h.log.Full() != nil:
		word, status = "full", http.StatusServiceUnavailable
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString(word + "\n")
	return nil
}

// expect decides before the client sends a body (RFC 9110, section 10.1.1).
func (h *Server) expect(ctx *fasthttp.RequestCtx) int {
	asked, p := h.readHeader(ctx)
	if p == nil {
		p = h.checkBeforeBody(ctx, &asked)
	}
	if p == nil {
		return http.StatusContinue
	}
	p.close = true // the client may have begun to send
	write(ctx, p)
	h.statuses[p.status].Add(1)
	connectionOf(ctx).enter(stateWriting)
	return p.status
}

// checkBeforeBody answers a request whose body is not worth sending.
func (h *Server) checkBeforeBody(ctx *fasthttp.RequestCtx, asked *header) *problem {
	switch {
	case string(ctx.URI().PathOriginal()) != usagesPath:
		return notFound()
	case !ctx.IsPost():
		return wrongMethod()
	}
	p := h.checkHeader(ctx, asked)
	if err := h.log.Full(); p == nil && err != nil && !errors.Is(err, ErrStarting) {
		p = logProblem(err)
	}
	if p != nil {
		h.log.Reject(wal.HTTP, p.code, 1)
	}
	return p
}

// brokenRequest answers what the server could not make a request of.
func (h *Server) brokenRequest(ctx *fasthttp.RequestCtx, err error) {
	p := &problem{status: http.StatusBadRequest, code: CodeBadRequest, detail: "this is no HTTP request", close: true}
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.As(err, &small):
		p.status, p.code = http.StatusRequestHeaderFieldsTooLarge, CodeHeaderSize
		p.detail = fmt.Sprintf("a request's header has at most %d bytes (http.max_header)", h.opts.MaxHeader)
	case isTimeout(err):
		p = h.tooLate(ctx)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		p = h.bodyTooLarge()
		p.close = true
	case strings.Contains(err.Error(), "HTTP version"):
		p.status, p.code, p.detail = http.StatusHTTPVersionNotSupported, CodeVersion, "use HTTP/1.1 or HTTP/1.0"
	}
	write(ctx, p)
	h.statuses[p.status].Add(1)
	connectionOf(ctx).enter(stateWriting)
}
