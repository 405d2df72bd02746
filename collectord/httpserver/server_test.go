package httpserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal"
)

// testTimeout is how long a test waits for a condition. It is much longer than a busy
// machine needs.
const testTimeout = time.Minute

// withoutDeadlines replaces unset timeouts by an hour, which no busy machine exceeds.
func withoutDeadlines(l Limits) Limits {
	for _, d := range []*time.Duration{&l.HeaderTimeout, &l.BodyGrace, &l.AnswerTimeout, &l.IdleTimeout} {
		if *d == 0 {
			*d = time.Hour
		}
	}
	return l
}

// memoryLog is a log in memory.
type memoryLog struct {
	mu             sync.Mutex
	usages         []string
	ids            []wal.ID
	clients        []string // client of each usage
	rejected       map[string]int
	appendErr      error
	commits        atomic.Uint64
	appends        int
	repeated       int
	appendStarted  chan struct{} // if not nil, receives a value when an append begins
	continueAppend chan struct{} // the append then waits for a value from this
}

func newMemoryLog() *memoryLog { return &memoryLog{rejected: map[string]int{}} }

func (l *memoryLog) AppendSeq(_ context.Context, recs iter.Seq[*wal.Record]) error {
	if l.appendStarted != nil {
		l.appendStarted <- struct{}{}
		<-l.continueAppend
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.appendErr != nil {
		return l.appendErr
	}
	l.appends++
	for range recs { // the first of two passes
	}
	for r := range recs {
		l.storeLocked(r)
	}
	return nil
}

// AppendTo commits at once. If appends are to wait, it returns ErrStarting, so that a worker
// calls AppendSeq.
func (l *memoryLog) AppendTo(w *wal.Waiter, recs iter.Seq[*wal.Record]) (commit uint64, err error) {
	if l.appendStarted != nil {
		return 0, ErrStarting
	}
	if err := l.AppendSeq(context.Background(), recs); err != nil {
		return 0, err
	}
	n := l.commits.Add(1)
	w.Deliver(wal.Outcome{Commit: n})
	return n, nil
}

func (l *memoryLog) Commit() {}

func (l *memoryLog) RequestCommit() {}

func (l *memoryLog) storeLocked(r *wal.Record) {
	l.usages = append(l.usages, string(r.Usage))
	l.clients = append(l.clients, r.Client)
	r.ReceivedAt = 1
	if r.ID == (wal.ID{}) {
		r.ID[15] = byte(len(l.usages))
	}
	l.ids = append(l.ids, r.ID)
}

func (l *memoryLog) Repeat(_ wal.Source, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repeated += n
}

func (l *memoryLog) Reject(s wal.Source, reason string, n int) {
	if n <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rejected[s.String()+" "+reason] += n
}

func (l *memoryLog) Full() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendErr
}

// startServer starts a server and returns its address.
func startServer(t *testing.T, log Log, o Options) (h *Server, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startServerOn(t, ln, log, o)
}

// startServerOn starts a server on a listener.
func startServerOn(t *testing.T, ln net.Listener, log Log, o Options) (h *Server, addr string) {
	t.Helper()
	h = newServer(t, log, o)
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return h, ln.Addr().String()
}

// sendRaw sends raw bytes and returns up to n responses.
func sendRaw(t *testing.T, addr, request string, n int) (responses []*http.Response, bodies []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for range n {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return responses, bodies
		}
		body, _ := io.ReadAll(resp.Body)
		responses, bodies = append(responses, resp), append(bodies, string(body))
	}
	return responses, bodies
}

func post(body string, headers ...string) string {
	head := ""
	for _, h := range headers {
		head += h + "\r\n"
	}
	return fmt.Sprintf("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s", len(body), head, body)
}

func TestResponses(t *testing.T) {
	const ok = `{"a":1}`
	big := `{"a":"` + strings.Repeat("x", 3000) + `"}`
	for name, c := range map[string]struct {
		request      string
		status       int
		want         string // part of the response's body
		header       string // "Name: value"
		wantRejected string // reason in the ledger
	}{
		"stored":             {post(ok, "Content-Type: application/json"), 201, `{"id":"00000000-0000-0000-0000-000000000001"}`, "Content-Type: application/json", ""},
		"no type":            {post(ok), 201, `"id"`, "", ""},
		"type with charset":  {post(ok, "Content-Type: application/json; charset=UTF-8"), 201, `"id"`, "", ""},
		"HTTP/1.0":           {strings.Replace(post(ok), "HTTP/1.1", "HTTP/1.0", 1), 201, `"id"`, "", ""},
		"chunked":            {"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n", 201, `"id"`, "", ""},
		"expect":             {post(ok, "Expect: 100-continue"), 100, "", "", ""},
		"form":               {post(ok, "Content-Type: application/x-www-form-urlencoded"), 415, "curl -d", "", "unsupported_media_type"},
		"text":               {post(ok, "Content-Type: text/plain"), 415, "unsupported_media_type", "", "unsupported_media_type"},
		"other charset":      {post(ok, "Content-Type: application/json; charset=latin1"), 415, "UTF-8", "", "unsupported_media_type"},
		"gzip":               {post(ok, "Content-Encoding: gzip"), 400, "bad_encoding", "", "bad_encoding"},
		"cross-site":         {post(ok, "Sec-Fetch-Site: cross-site"), 403, "cross_site", "", "cross_site"},
		"not JSON":           {post("secret"), 400, "invalid_json", "Content-Type: application/problem+json", "invalid_json"},
		"array":              {post("[1]"), 400, "not_an_object", "", "not_an_object"},
		"empty":              {post(""), 400, "empty", "", "empty"},
		"too large":          {post(big), 413, "too_large", "Connection: close", "too_large"},
		"too large, chunked": {"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big), 413, "too_large", "Connection: close", "too_large"},
		"too large, expect":  {"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n", 413, "too_large", "Connection: close", "too_large"},
		"method":             {"GET /api/usages HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method_not_allowed", "Allow: POST", ""},
		"path":               {"POST /api/usage HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 404, "not_found", "", ""},
		"health":             {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "ok", "", ""},
		"health method":      {"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405, "method_not_allowed", "Allow: GET, HEAD", ""},
		"version":            {"POST /api/usages HTTP/2.0\r\nHost: localhost\r\nContent-Length: 7\r\n\r\n" + ok, 505, "unsupported_version", "Connection: close", ""},
		"not HTTP":           {"hello\r\n\r\n", 400, "bad_request", "Connection: close", ""},
		"header too large":   {"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n", 431, "header_too_large", "Connection: close", ""},
		"two lengths":        {"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n" + ok, 400, "bad_request", "Connection: close", ""},
		"length and chunked": {"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n" + ok + "\r\n0\r\n\r\n", 400, "bad_request", "Connection: close", ""},
		"broken chunk":       {"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request", "Connection: close", "bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newMemoryLog()
			_, addr := startServer(t, log, Options{Limits: Limits{MaxRecord: 1 << 10}, MaxBody: 2 << 10})
			responses, bodies := sendRaw(t, addr, c.request, 1)
			if len(responses) == 0 {
				t.Fatal("no response")
			}
			if responses[0].StatusCode != c.status || !strings.Contains(bodies[0], c.want) || strings.Contains(bodies[0], "secret") {
				t.Errorf("%s: %s", responses[0].Status, bodies[0])
			}
			if h, v, ok := strings.Cut(c.header, ": "); ok && responses[0].Header.Get(h) != v && (h != "Connection" || !responses[0].Close) {
				t.Errorf("%s is %q, want %q", h, responses[0].Header.Get(h), v)
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			if c.wantRejected != "" && (len(log.rejected) != 1 || log.rejected["http "+c.wantRejected] != 1) || c.wantRejected == "" && len(log.rejected) != 0 {
				t.Errorf("rejected %v, want %q", log.rejected, c.wantRejected)
			}
			if c.status >= 400 && len(log.usages) > 0 {
				t.Errorf("stored %v", log.usages)
			}
		})
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	log := newMemoryLog()
	_, addr := startServer(t, log, Options{})
	request := ""
	for i := range 20 {
		request += post(fmt.Sprintf(`{"n":%d}`, i))
	}
	responses, _ := sendRaw(t, addr, request, 20)
	if len(responses) != 20 || len(log.usages) != 20 || log.usages[7] != `{"n":7}` {
		t.Errorf("%d responses, want 20; stored %v", len(responses), log.usages)
	}
}

func TestErrorsOfTheLogAreReportedToTheClient(t *testing.T) {
	for refusal, code := range map[error]string{
		wal.ErrFull: CodeLogFull, wal.ErrUnavailable: CodeLogFull,
		wal.ErrCommitFailed: CodeCommitFailed, wal.ErrClosed: CodeShuttingDown,
	} {
		log := newMemoryLog()
		log.appendErr = fmt.Errorf("%w: for a reason", refusal)
		_, addr := startServer(t, log, Options{})
		responses, bodies := sendRaw(t, addr, post(`{"a":1}`), 1)
		if responses[0].StatusCode != http.StatusServiceUnavailable || !strings.Contains(bodies[0], `"`+code+`"`) || responses[0].Header.Get("Retry-After") == "" {
			t.Errorf("%v: %s %s", refusal, responses[0].Status, bodies[0])
		}
		if len(log.rejected) != 0 { // the log counts its own rejections
			t.Errorf("counted twice: %v", log.rejected)
		}
		responses, bodies = sendRaw(t, addr, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
		if responses[0].StatusCode != http.StatusServiceUnavailable || bodies[0] != "full\n" {
			t.Errorf("health: %s %s", responses[0].Status, bodies[0])
		}
	}
}

func TestSlowHeadersGet408(t *testing.T) {
	_, addr := startServer(t, newMemoryLog(), Options{Limits: Limits{HeaderTimeout: 50 * time.Millisecond}})
	responses, bodies := sendRaw(t, addr, "POST /api/usages HTTP/1.1\r\nHost:", 1)
	if len(responses) != 1 || responses[0].StatusCode != http.StatusRequestTimeout || !strings.Contains(bodies[0], CodeTimeout) {
		t.Errorf("%v %v", responses, bodies)
	}
}

// The kernel passes a connection to the server with its first bytes, and a silent one after
// deferAcceptSeconds. So a silent connection can't stay open unnoticed.
func TestSilentConnectionsAreAcceptedLaterAndTimeOut(t *testing.T) {
	t.Parallel()
	const headerTimeout = time.Second // enough for the other connections on a busy machine
	h, addr := startServer(t, newMemoryLog(), Options{Limits: Limits{HeaderTimeout: headerTimeout}})
	served := func() {
		t.Helper()
		if responses, _ := sendRaw(t, addr, post(`{"a":1}`), 1); len(responses) != 1 || responses[0].StatusCode != http.StatusCreated {
			t.Fatal("the request was not served")
		}
		waitFor(t, func() bool { return h.Connections() == 0 })
	}
	served() // the server accepts
	began := time.Now()
	silent, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_ = silent.SetDeadline(time.Now().Add(testTimeout))
	served() // a later connection is served first
	response, err := io.ReadAll(silent)
	if err != nil || !strings.HasPrefix(string(response), "HTTP/1.1 408 ") {
		t.Errorf("%v: %s", err, response)
	}
	if took := time.Since(began); took < headerTimeout+deferAcceptSeconds*time.Second/2 {
		t.Errorf("timed out after %v", took)
	}
}

// occupyConnections makes n clients wait for the log, so that their connections can't make
// room. After release they get their responses.
func occupyConnections(t *testing.T, log *memoryLog, addr string, n int) (held []*rawClient, release func()) {
	t.Helper()
	for range n {
		v := dialRaw(t, addr)
		v.send(post(`{"a":1}`))
		<-log.appendStarted
		held = append(held, v)
	}
	return held, func() {
		go func() {
			for range log.appendStarted { // of later appends
			}
		}()
		close(log.continueAppend)
	}
}

func TestConnectionsBeyondTheLimitGet503(t *testing.T) {
	log := newMemoryLog()
	log.appendStarted, log.continueAppend = make(chan struct{}), make(chan struct{})
	h, addr := startServer(t, log, Options{Limits: Limits{MaxConnections: 3}})
	held, release := occupyConnections(t, log, addr, 3)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST")
	response, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(response), "HTTP/1.1 503 ") || !strings.Contains(string(response), CodeOverloaded) {
		t.Errorf("%v: %s", err, response)
	}
	if h.TurnedAway() != 1 {
		t.Errorf("%d connections turned away, want 1", h.TurnedAway())
	}
	release()
	for i, v := range held {
		if status, body := v.readResponse(); status != http.StatusCreated {
			t.Errorf("client %d: %d %s", i, status, body)
		}
	}
	held[0].Close()
	waitFor(t, func() bool { return h.Connections() == 2 })
	if responses, _ := sendRaw(t, addr, post(`{"a":1}`), 1); len(responses) != 1 || responses[0].StatusCode != http.StatusCreated {
		t.Error("the next connection did not get the free place")
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(testTimeout)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("the condition is still not met after ", testTimeout)
		}
		<-time.After(time.Millisecond)
	}
}

func TestDeclaredLengthsReserveNothing(t *testing.T) {
	h, addr := startServer(t, newMemoryLog(), Options{MaxBody: 16 << 20})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 100 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		body := strings.Repeat(" ", 10<<10) // enough to begin the request
		if _, err := fmt.Fprintf(c, "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", 16<<20, body); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return h.Connections() == 100 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 16<<20 {
		t.Errorf("100 connections that declare 16 MiB each took %d bytes", grown)
	}
}

func TestDrainingClosesConnections(t *testing.T) {
	h, addr := startServer(t, newMemoryLog(), Options{})
	h.Drain()
	responses, _ := sendRaw(t, addr, post(`{"a":1}`), 1)
	if responses[0].StatusCode != http.StatusCreated || !responses[0].Close {
		t.Errorf("%s, close %v", responses[0].Status, responses[0].Close)
	}
	responses, bodies := sendRaw(t, addr, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
	if responses[0].StatusCode != http.StatusServiceUnavailable || bodies[0] != "draining\n" {
		t.Errorf("%s %s", responses[0].Status, bodies[0])
	}
}

func TestATruncatedBodyStoresNothing(t *testing.T) {
	log := newMemoryLog()
	h, addr := startServer(t, log, Options{})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"a\":1}"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(c)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	c.Close()
	waitFor(t, func() bool { return h.Connections() == 0 })
	if len(log.usages) > 0 {
		t.Errorf("stored %v", log.usages)
	}
}

func TestNewLimitsApplyToOpenConnections(t *testing.T) {
	h, addr := startServer(t, newMemoryLog(), Options{})
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	post := func(want int) {
		t.Helper()
		resp, err := client.Post("http://"+addr+"/api/usages", "application/json", strings.NewReader(`{"a":"`+strings.Repeat("x", 2000)+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	post(http.StatusCreated)
	h.SetLimits(Limits{MaxRecord: 1 << 10})
	post(http.StatusRequestEntityTooLarge)
	h.SetLimits(Limits{IdleTimeout: 10 * time.Millisecond})
	post(http.StatusCreated)
	waitFor(t, func() bool { return h.Connections() == 0 })
}

// A failure to accept one connection does not end the listener. The errors are those of
// accept(2).
func TestServeContinuesAfterErrorsThatPass(t *testing.T) {
	passing := []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.ECONNABORTED, syscall.EPERM, syscall.EACCES, syscall.EPROTO, syscall.ENETDOWN, syscall.EHOSTUNREACH}
	for _, last := range []error{net.ErrClosed, syscall.EINVAL} {
		synctest.Test(t, func(t *testing.T) {
			ln := &failingListener{errs: make(chan error, len(passing)+1)}
			var text strings.Builder
			h := newServer(t, newMemoryLog(), Options{Logger: slog.New(slog.NewTextHandler(&text, nil))})
			for _, err := range append(passing, last) {
				ln.errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
			}
			if err := h.Serve(ln); (err == nil) != errors.Is(last, net.ErrClosed) {
				t.Error(err)
			}
			if len(ln.errs) > 0 || strings.Count(text.String(), "trouble=accept") != len(passing) {
				t.Errorf("Serve returned %d errors early, and logged %s", len(ln.errs), text.String())
			}
		})
	}
}

type failingListener struct{ errs chan error }

func (l *failingListener) Accept() (net.Conn, error) { return nil, <-l.errs }
func (l *failingListener) Close() error              { return nil }
func (l *failingListener) Addr() net.Addr            { return &net.TCPAddr{} }

func TestA404NamesTheAdminServerForItsPaths(t *testing.T) {
	for _, c := range []struct{ path, listen, want string }{
		{"/metrics", "127.0.0.1:3001", "the admin server serves this path: admin.listen is 127.0.0.1:3001"},
		{"/metrics?x=1", "", "the admin server serves this path: admin.listen is off"},
		{"/metric", "127.0.0.1:3001", "usages are posted to /api/usages"},
	} {
		o := Options{AdminServes: func(path string) bool { return path == "/metrics" }}
		if c.listen != "" {
			o.AdminAddresses = []string{c.listen}
		}
		_, addr := startServer(t, newMemoryLog(), o)
		responses, bodies := sendRaw(t, addr, "GET "+c.path+" HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
		if len(responses) != 1 || responses[0].StatusCode != http.StatusNotFound || !strings.Contains(bodies[0], `"detail":"`+c.want+`"`) {
			t.Errorf("%s: %q, want %q", c.path, bodies, c.want)
		}
	}
}
