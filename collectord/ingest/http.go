package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"collectord/wal"
)

// HTTPOptions set up the HTTP door. The zero value of each field stands for its
// default.
type HTTPOptions struct {
	Limits    HTTPLimits
	MaxHeader int // bytes of a request's header; default 8 KiB
	// Logger is told of everything that goes wrong and right again; default: none.
	// What can repeat carries the attribute "trouble" with a name of its own, and
	// so does the Info line that says it is over, so that a handler can sum up.
	Logger *slog.Logger
}

// keepBuffer is the size up to which a body's buffer is kept for the next
// request.
const keepBuffer = 64 << 10

// HTTP is the door that answers: POST /api/usages and GET /healthz.
//
// It runs on fasthttp, set up so that nothing is held that did not arrive: bodies
// are read through the stream only, never by their declared length.
type HTTP struct {
	log      Log
	opts     HTTPOptions
	limits   atomic.Pointer[HTTPLimits]
	server   *fasthttp.Server
	requests sync.Pool // of *request
	draining atomic.Bool
	open     connections
	rates    rates
	statuses [600]atomic.Uint64
	took     [6]*wal.Histogram // by class of status
}

// NewHTTP makes a door that is not yet listening.
func NewHTTP(log Log, o HTTPOptions) *HTTP {
	if o.MaxHeader == 0 {
		o.MaxHeader = 8 << 10
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &HTTP{log: log, opts: o, open: connections{epoch: time.Now()}}
	h.SetLimits(o.Limits)
	for class := range h.took {
		h.took[class] = wal.NewLatencyHistogram()
	}
	for _, reason := range httpReasons() {
		log.Reject(wal.HTTP, reason, 0)
	}
	h.requests.New = func() any { return &request{body: make([]byte, 0, 4<<10)} }
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
		// which turns away what is beyond MaxConnections, by connected for the time
		// between and at the beginning of requests, by headerReceived for the rest.
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

// Serve answers on ln until Shutdown.
func (h *HTTP) Serve(ln net.Listener) error {
	boundAnswers(ln)
	if err := h.server.Serve(&limitedListener{Listener: ln, door: h}); err != nil {
		return fmt.Errorf("http listener %s: %w", ln.Addr(), err)
	}
	return nil
}

// Drain asks clients to go elsewhere: answers close their connections, and
// /healthz says so.
func (h *HTTP) Drain() { h.draining.Store(true) }

// Shutdown closes the listeners and idle connections, and waits for requests
// under way.
func (h *HTTP) Shutdown(ctx context.Context) error {
	h.Drain()
	return h.server.ShutdownWithContext(ctx)
}

// httpReasons are the codes of usages that are refused before the log sees them.
func httpReasons() []string {
	return append(usageCodes(), CodeTooLarge, CodeBadRequest, CodeRateLimited, CodeCrossSite, CodeTimeout, CodeMediaType, CodeEncoding, CodeInternal)
}

// Requests returns how many requests were answered, by status. Those that are
// usual are there from the start.
func (h *HTTP) Requests() map[int]uint64 {
	m := map[int]uint64{
		http.StatusOK: 0, http.StatusCreated: 0, http.StatusBadRequest: 0, http.StatusRequestEntityTooLarge: 0,
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
func (h *HTTP) Seconds() map[int]wal.Distribution {
	return map[int]wal.Distribution{2: h.took[2].Seconds(), 4: h.took[4].Seconds(), 5: h.took[5].Seconds()}
}

// Connections returns how many connections are open.
func (h *HTTP) Connections() int { return h.open.count() }

// request is what one POST needs, reused by the next.
type request struct {
	body   []byte
	answer []byte
	recs   [1]wal.Record
}

func (h *HTTP) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	if h.draining.Load() {
		ctx.SetConnectionClose()
	}
	var p *problem
	switch protocol := ctx.Request.Header.Protocol(); {
	case string(protocol) != "HTTP/1.1" && string(protocol) != "HTTP/1.0":
		p = &problem{status: http.StatusHTTPVersionNotSupported, code: CodeVersion, detail: "use HTTP/1.1 or HTTP/1.0", close: true}
	case string(ctx.Path()) == "/api/usages":
		p = h.usages(ctx)
	case string(ctx.Path()) == "/healthz":
		p = h.health(ctx)
	default:
		p = &problem{status: http.StatusNotFound, code: CodeNotFound, detail: "usages are posted to /api/usages"}
	}
	if p != nil {
		write(ctx, p)
	}
	status := ctx.Response.StatusCode()
	h.statuses[status].Add(1)
	h.took[status/100].ObserveTime(time.Since(began))
}

func write(ctx *fasthttp.RequestCtx, p *problem) {
	ctx.SetStatusCode(p.status)
	ctx.SetContentType(problemType)
	if p.header[0] != "" {
		ctx.Response.Header.Set(p.header[0], p.header[1])
	}
	if p.close {
		ctx.SetConnectionClose()
	}
	ctx.SetBody(p.body())
}

func (h *HTTP) health(ctx *fasthttp.RequestCtx) *problem {
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

// usages answers a POST of one usage. What it refuses it reports to the ledger.
func (h *HTTP) usages(ctx *fasthttp.RequestCtx) *problem {
	if !ctx.IsPost() {
		return &problem{status: http.StatusMethodNotAllowed, code: CodeMethod, detail: "usages are posted", header: [2]string{"Allow", "POST"}}
	}
	r := h.requests.Get().(*request) //nolint:forcetypeassert // the pool holds nothing else
	p, counted := h.store(ctx, r)
	if p != nil && !counted {
		h.log.Reject(wal.HTTP, p.code, 1)
	}
	r.recs[0] = wal.Record{}
	if cap(r.body) <= keepBuffer {
		h.requests.Put(r)
	}
	return p
}

// store reads, checks and stores one usage and answers. With a problem, counted
// tells whether the log has entered it in the ledger already.
func (h *HTTP) store(ctx *fasthttp.RequestCtx, r *request) (p *problem, counted bool) {
	if p := h.checkHeader(&ctx.Request.Header); p != nil {
		p.close = true // the body stays unread
		return p, false
	}
	if p := h.readBody(ctx, r); p != nil {
		return p, false
	}
	usage, fault := checkOnlyUsage(r.body)
	if fault != nil {
		return badUsage(fault), false
	}
	if p := h.admit("", 1, time.Now()); p != nil {
		return p, false
	}
	r.recs[0] = wal.Record{Usage: usage, Source: wal.HTTP}
	if err := h.log.Append(context.Background(), r.recs[:]...); err != nil {
		return h.appendProblem(err)
	}
	r.answer = append(r.answer[:0], `{"id":"`...)
	r.answer = r.recs[0].ID.AppendTo(r.answer)
	r.answer = append(r.answer, `"}`...)
	ctx.SetStatusCode(http.StatusCreated)
	ctx.SetContentType("application/json")
	ctx.SetBody(r.answer)
	return nil, false
}

// appendProblem translates an error of the log, which has counted it already.
func (h *HTTP) appendProblem(err error) (p *problem, counted bool) {
	switch {
	case errors.Is(err, wal.ErrClosed):
		return unavailable(CodeShuttingDown, "this collector is shutting down; nothing was stored"), true
	case errors.Is(err, wal.ErrCommitFailed):
		return unavailable(CodeCommitFailed, "the disk failed; the usage may be stored or not"), true
	case errors.Is(err, wal.ErrFull), errors.Is(err, wal.ErrUnavailable):
		return unavailable(CodeLogFull, "the log can't take more at the moment; nothing was stored"), true
	}
	h.opts.Logger.Error("the log refused a usage that was checked", "trouble", "append", "error", err)
	return &problem{status: http.StatusInternalServerError, code: CodeInternal, detail: "nothing was stored"}, false
}

// checkHeader decides what can be decided before the body is read.
func (h *HTTP) checkHeader(header *fasthttp.RequestHeader) *problem {
	if oddLines(header.RawHeaders()) {
		return &problem{status: http.StatusBadRequest, code: CodeBadRequest, detail: "a line of the header is continued, or does not end with CR LF"}
	}
	if ambiguousLength(header) {
		return &problem{status: http.StatusBadRequest, code: CodeBadRequest, detail: "Transfer-Encoding goes with neither Content-Length nor HTTP/1.0"}
	}
	if string(header.Peek("Sec-Fetch-Site")) == "cross-site" {
		return &problem{status: http.StatusForbidden, code: CodeCrossSite, detail: "a page of another site may not post here"}
	}
	if n := header.ContentLength(); n > h.limits.Load().MaxRecord {
		return h.tooLarge()
	}
	if e := header.Peek("Content-Encoding"); len(e) > 0 && !strings.EqualFold(string(e), "identity") {
		return &problem{
			status: http.StatusUnsupportedMediaType, code: CodeEncoding,
			detail: "send the body as it is", header: [2]string{"Accept-Encoding", "identity"},
		}
	}
	contentType := header.ContentType()
	if len(contentType) == 0 || string(contentType) == "application/json" {
		return nil
	}
	media, params, err := mime.ParseMediaType(string(contentType))
	charset := params["charset"]
	switch {
	case err == nil && media == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8")):
		return nil
	case media == "application/x-www-form-urlencoded":
		return &problem{
			status: http.StatusUnsupportedMediaType, code: CodeMediaType,
			detail: "add the header Content-Type: application/json (curl -d sends a form's type unless told otherwise)",
		}
	}
	return &problem{status: http.StatusUnsupportedMediaType, code: CodeMediaType, detail: "send Content-Type: application/json, in UTF-8"}
}

// ambiguousLength reports whether a proxy in front could see the request end
// elsewhere than we do (RFC 9112, section 6.3). The server has dropped the
// Content-Length of a chunked request by now, but not from the raw header.
func ambiguousLength(header *fasthttp.RequestHeader) bool {
	if header.ContentLength() != -1 {
		return false
	}
	if string(header.Protocol()) == "HTTP/1.0" {
		return true
	}
	for line := range bytes.Lines(header.RawHeaders()) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(bytes.TrimSpace(name), []byte("Content-Length")) {
			return true
		}
	}
	return false
}

func (h *HTTP) tooLarge() *problem {
	return &problem{
		status: http.StatusRequestEntityTooLarge, code: CodeTooLarge, close: true,
		detail: fmt.Sprintf("a usage has at most %d bytes (http.max_record)", h.limits.Load().MaxRecord),
	}
}

// readBody reads the body as it arrives. Only the stream's own error tells
// whether it is whole.
func (h *HTTP) readBody(ctx *fasthttp.RequestCtx, r *request) *problem {
	r.body = r.body[:0]
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return nil // no body at all: an empty usage
	}
	limits := h.limits.Load()
	began := time.Now()
	for paced := false; ; paced = true {
		if len(r.body) == cap(r.body) {
			r.body = append(r.body, 0)[:len(r.body)]
		}
		if paced { // the first part came with the header
			by := began.Add(limits.arrival(len(r.body) + limits.BodyRate))
			if err := ctx.Conn().SetReadDeadline(by); err != nil {
				return &problem{status: http.StatusBadRequest, code: CodeBadRequest, close: true}
			}
		}
		n, err := stream.Read(r.body[len(r.body):cap(r.body)])
		r.body = r.body[:len(r.body)+n]
		if len(r.body) > limits.MaxRecord {
			return h.tooLarge()
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case isTimeout(err):
			return h.tooSlow()
		case err != nil:
			return &problem{status: http.StatusBadRequest, code: CodeBadRequest, detail: "the body is broken off or not well encoded", close: true}
		}
	}
}

func (h *HTTP) tooSlow() *problem {
	return &problem{
		status: http.StatusRequestTimeout, code: CodeTimeout, close: true,
		detail: fmt.Sprintf("the request must arrive at %d bytes a second or more (http.body_rate)", h.limits.Load().BodyRate),
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// expect decides before the client sends a body (RFC 9110, section 10.1.1).
func (h *HTTP) expect(ctx *fasthttp.RequestCtx) int {
	header := &ctx.Request.Header
	p := h.checkHeader(header)
	if p == nil && (!header.IsPost() || string(ctx.Path()) != "/api/usages") {
		p = &problem{status: http.StatusExpectationFailed, code: CodeExpectation, detail: "usages are posted to /api/usages"}
	}
	if p == nil {
		return http.StatusContinue
	}
	if header.IsPost() && string(ctx.Path()) == "/api/usages" {
		h.log.Reject(wal.HTTP, p.code, 1)
	}
	write(ctx, p)
	h.statuses[p.status].Add(1)
	return p.status
}

// brokenRequest answers what the server could not make a request of.
func (h *HTTP) brokenRequest(ctx *fasthttp.RequestCtx, err error) {
	p := &problem{status: http.StatusBadRequest, code: CodeBadRequest, detail: "this is no HTTP request", close: true}
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.As(err, &small):
		p.status, p.code = http.StatusRequestHeaderFieldsTooLarge, CodeHeaderSize
		p.detail = fmt.Sprintf("a request's header has at most %d bytes (http.max_header)", h.opts.MaxHeader)
	case isTimeout(err):
		p = h.tooSlow()
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		p = h.tooLarge()
	case strings.Contains(err.Error(), "HTTP version"):
		p.status, p.code, p.detail = http.StatusHTTPVersionNotSupported, CodeVersion, "use HTTP/1.1 or HTTP/1.0"
	}
	write(ctx, p)
	h.statuses[p.status].Add(1)
}
