package send

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a server that stores the bodies of requests by their Idempotency-Key.
type recorder struct {
	mu      sync.Mutex
	bodies  map[string][]string
	headers []http.Header
	respond func(w http.ResponseWriter, r *http.Request, attempt int)
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key := r.Header.Get("Idempotency-Key")
	rec.mu.Lock()
	if rec.bodies == nil {
		rec.bodies = map[string][]string{}
	}
	rec.bodies[key] = append(rec.bodies[key], string(body))
	rec.headers = append(rec.headers, r.Header)
	attempt := len(rec.bodies[key])
	rec.mu.Unlock()
	if rec.respond != nil {
		rec.respond(w, r, attempt)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func serve(t *testing.T, rec *recorder) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(rec)
	t.Cleanup(s.Close)
	return s
}

func mustRun(t *testing.T, o Options) Summary {
	t.Helper()
	s, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeConnection(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		c.Close()
	}
}

func TestARequestStaysTheSameUntilItIsAnswered(t *testing.T) {
	rec := &recorder{respond: func(w http.ResponseWriter, _ *http.Request, attempt int) {
		switch attempt {
		case 1:
			closeConnection(w)
		case 2:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"code":"log_full"}`)
		default:
			w.Header().Set("Idempotency-Replayed", "true")
			w.WriteHeader(http.StatusCreated)
		}
	}}
	s := mustRun(t, Options{Target: serve(t, rec).URL, Count: 95, Batch: 10, Connections: 10, RetryFor: time.Minute})
	if s.UsagesAcknowledged != 95 || s.UsagesRepeated != 95 || s.UsagesSent != 95 || s.Retries != 20 || s.Requests != 30 || !s.Complete() {
		t.Errorf("summary %+v", s)
	}
	if s.Statuses["503"] != 10 || s.Statuses["201"] != 10 || s.Codes["log_full"] != 10 || s.Errors["closed without an answer"] != 10 {
		t.Errorf("summary %+v", s)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.bodies) != 10 {
		t.Errorf("%d keys for 10 requests", len(rec.bodies))
	}
	for key, bodies := range rec.bodies {
		if key == "" || len(bodies) != 3 || bodies[0] != bodies[1] || bodies[0] != bodies[2] {
			t.Errorf("key %q: %d requests, want 3 with the same body", key, len(bodies))
		}
	}
}

func TestARetryWaitsForRetryAfterOrIsNotMade(t *testing.T) {
	var first, second time.Time
	wait := "1"
	rec := &recorder{respond: func(w http.ResponseWriter, _ *http.Request, attempt int) {
		if attempt == 1 {
			first = time.Now()
			w.Header().Set("Retry-After", wait)
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		second = time.Now()
		w.WriteHeader(http.StatusCreated)
	}}
	target := serve(t, rec).URL
	s := mustRun(t, Options{Target: target, RetryFor: time.Minute})
	if pause := second.Sub(first); s.UsagesAcknowledged != 1 || pause < time.Second {
		t.Errorf("retried after %v: %+v", pause, s)
	}
	wait = "100"
	if s = mustRun(t, Options{Target: target, RetryFor: time.Minute}); s.Requests != 1 || s.UsagesFailed != 1 || s.Complete() {
		t.Errorf("want no retry beyond RetryFor: %+v", s)
	}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "Tue, 24 Nov 2026 12:00:09 GMT": 9 * time.Second, "Tue, 24 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter([]byte(value), now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", value, got, want)
		}
	}
	for attempt := -10; attempt < 100; attempt++ {
		if d := backoff(attempt); d < 0 || d > maxBackoff {
			t.Errorf("backoff of %v before retry %d, want 0 to %v", d, attempt, maxBackoff)
		}
	}
}

func TestRetriesEndAfterRetryFor(t *testing.T) {
	rec := &recorder{respond: func(w http.ResponseWriter, _ *http.Request, _ int) { closeConnection(w) }}
	s := mustRun(t, Options{Target: serve(t, rec).URL, Count: 3, Connections: 3, RetryFor: 300 * time.Millisecond})
	if s.UsagesFailed != 3 || s.UsagesAcknowledged != 0 || s.Requests != s.Retries+3 || s.Latency != nil {
		t.Errorf("summary %+v", s)
	}
}

func TestARunIsDeterminedByItsOptions(t *testing.T) {
	sent := func(o Options) []string {
		rec := &recorder{}
		o.Target = serve(t, rec).URL
		mustRun(t, o)
		rec.mu.Lock()
		defer rec.mu.Unlock()
		var all []string
		for key, bodies := range rec.bodies {
			for _, b := range bodies {
				all = append(all, key+" "+b)
			}
		}
		slices.Sort(all)
		return all
	}
	for _, o := range []Options{
		{Count: 100, Connections: 4},
		{Count: 105, Batch: 10, Connections: 3},
		{Count: 105, Batch: 10, Lines: true},
		{Count: 50, Batch: 10, Compress: Gzip},
		{Count: 50, Batch: 10, Compress: Zstd, Key: "k"},
		{Count: 105, Batch: 10, Prepared: 3, Connections: 2},
	} {
		o.Seed, o.From = 7, time.UnixMilli(1_800_000_000_000)
		one, two := sent(o), sent(o)
		if !slices.Equal(one, two) || len(one) != int(newPlan(o.withDefaults()).batches) {
			t.Errorf("%+v: two runs with %d and %d requests differ", o, len(one), len(two))
		}
		if o.Seed++; slices.Equal(one, sent(o)) {
			t.Errorf("%+v: another seed sends the same usages", o)
		}
	}
}

// One connection sends a request every 10 ms to a server that stalls once. The latency of
// the requests that wait behind the first one includes the stall.
func TestLatencyCountsFromWhenARequestWasDue(t *testing.T) {
	const stall = 400 * time.Millisecond
	first := true
	rec := &recorder{respond: func(w http.ResponseWriter, _ *http.Request, _ int) {
		if first {
			first = false
			<-time.After(stall)
		}
		w.WriteHeader(http.StatusCreated)
	}}
	s := mustRun(t, Options{Target: serve(t, rec).URL, Count: 20, Rate: 100})
	// The eleventh, due at 100 ms, can't have been sent before 400 ms.
	if minP50 := 299.0; s.UsagesAcknowledged != 20 || s.Latency.P50 < minP50 {
		t.Errorf("the median latency is %v ms, want at least %v", s.Latency.P50, minP50)
	}
}

func TestResponsesAreCountedByTheirContent(t *testing.T) {
	for name, c := range map[string]struct {
		respond func(w http.ResponseWriter)
		want    func(s Summary) bool
	}{
		"some of a batch": {func(w http.ResponseWriter) {
			io.WriteString(w, `{"accepted":8,"rejected":2,"errors":[{"index":1,"code":"empty"},{"index":2,"code":"empty"}]}`)
		}, func(s Summary) bool {
			return s.UsagesAcknowledged == 8 && s.UsagesRejected == 2 && s.Codes["empty"] == 2
		}},
		"rejected": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"code":"unauthorized"}`)
		}, func(s Summary) bool {
			return s.UsagesRejected == 10 && s.Codes["unauthorized"] == 1 && s.Statuses["401"] == 1
		}},
		"redirected": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "/")
			w.WriteHeader(http.StatusFound)
		}, func(s Summary) bool { return s.UsagesRejected == 10 && s.Requests == 1 }},
		"temporary failure": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "<html>\x1b[2J")
		}, func(s Summary) bool { return s.UsagesFailed == 10 && len(s.Codes) == 0 }},
		"unprintable code": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"code":"\u001b[2J"}`)
		}, func(s Summary) bool { return s.Codes["unprintable"] == 1 }},
		"chunked, and the connection closed": {func(w http.ResponseWriter) {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusCreated)
			w.(http.Flusher).Flush()
			io.WriteString(w, `{"accepted":10}`)
		}, func(s Summary) bool { return s.UsagesAcknowledged == 10 && s.Complete() }},
	} {
		rec := &recorder{respond: func(w http.ResponseWriter, _ *http.Request, _ int) { c.respond(w) }}
		s := mustRun(t, Options{Target: serve(t, rec).URL, Count: 10, Batch: 10})
		if !c.want(s) || s.UsagesSent != s.UsagesAcknowledged+s.UsagesRejected+s.UsagesFailed || s.Complete() != (s.UsagesAcknowledged == 10) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestAResponseBeforeTheEndOfTheBodyIsRead(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1000))
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 20\r\n\r\n{\"code\":\"too_large\"}")
			c.(*net.TCPConn).CloseWrite()
			c.Close() // before the body has arrived
		}
	}()
	large := &Payload{usages: [][]byte{make([]byte, 16<<20)}} // more than the socket buffers
	s := mustRun(t, Options{Target: "http://" + ln.Addr().String(), Count: 2, Payload: large})
	if s.Codes["too_large"] != 2 || s.UsagesRejected != 2 {
		t.Errorf("summary %+v", s)
	}
}

func TestAnInterruptedRunCountsUnsentUsages(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rec := &recorder{respond: func(w http.ResponseWriter, _ *http.Request, _ int) {
		cancel()
		w.WriteHeader(http.StatusCreated)
	}}
	s, err := Run(ctx, Options{Target: serve(t, rec).URL, Count: 100, Batch: 10, Connections: 3})
	if err != nil || !s.Interrupted || s.UsagesAcknowledged == 0 || s.UsagesUnsent != 100-s.UsagesAcknowledged || s.UsagesSent != s.UsagesAcknowledged || s.Complete() {
		t.Errorf("%v: %+v", err, s)
	}
}

func TestAConnectionClosedByTheServerIsNotReused(t *testing.T) {
	rec := &recorder{respond: func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.WriteHeader(http.StatusCreated)
	}}
	server := serve(t, rec)
	to, err := parseTarget(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := &connection{target: to, timeout: 10 * time.Second, counts: newCounts()}
	defer c.close()
	request := append(requestHead(Options{}, to), "Content-Length: 2\r\n\r\n{}"...)
	for range 3 {
		if a, err := c.exchange(context.Background(), request); err != nil || a.status != http.StatusCreated {
			t.Fatalf("%+v, %v", a, err)
		}
		server.CloseClientConnections()
		c.lastUsed = c.lastUsed.Add(-2 * checkAfterIdle)
	}
}

func TestUnixSocketsAndTLSWithAClientCertificate(t *testing.T) {
	rec := &recorder{}
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	unix := &httptest.Server{Listener: ln, Config: &http.Server{Handler: rec}}
	unix.Start()
	defer unix.Close()
	if s := mustRun(t, Options{Target: "unix:" + path, Count: 10}); s.UsagesAcknowledged != 10 || s.Target != "unix:"+path {
		t.Errorf("summary %+v", s)
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(mine)
	secure := httptest.NewUnstartedServer(rec)
	secure.Config.ErrorLog = discard()
	secure.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	secure.StartTLS()
	defer secure.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	o := Options{Target: secure.URL, Count: 10, Connections: 2, TLS: &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	if s := mustRun(t, o); s.UsagesAcknowledged != 10 {
		t.Errorf("summary %+v", s)
	}
	o.TLS = &tls.Config{RootCAs: trusted}
	if s := mustRun(t, o); s.UsagesFailed != 10 || s.UsagesAcknowledged != 0 {
		t.Errorf("without a client certificate: %+v", s)
	}
	o.TLS = nil
	if s, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server certificate of an unknown authority: %+v, %v", s, err)
	}
}

func TestTheTokenIsSentAndNeverReported(t *testing.T) {
	const token = "cd_secret"
	rec := &recorder{respond: func(w http.ResponseWriter, r *http.Request, attempt int) {
		if attempt%2 == 0 {
			closeConnection(w)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"code":"forbidden","detail":%q}`, r.Header.Get("Authorization"))
	}}
	server := serve(t, rec)
	s := mustRun(t, Options{Target: server.URL, Count: 10, Token: token})
	rec.mu.Lock()
	for _, h := range rec.headers {
		if h.Get("Authorization") != "Bearer "+token {
			t.Errorf("header without the token: %v", h)
		}
	}
	rec.mu.Unlock()
	summary, err := json.Marshal(s)
	if err != nil || strings.Contains(string(summary), token) || s.UsagesRejected != 5 || s.UsagesFailed != 5 {
		t.Errorf("%s, %v", summary, err)
	}
	server.Close()
	for _, o := range []Options{{Target: server.URL, Token: token}, {Target: "http://me:" + token + "@localhost"}, {Target: server.URL, Token: token + "\n"}} {
		if _, err := Run(context.Background(), o); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("want an error without the token, got %v", err)
		}
	}
}

func TestTargetsAreParsed(t *testing.T) {
	for s, want := range map[string]string{
		"http://localhost:3000": "http://localhost:3000/api/usages", "https://a.example": "https://a.example/api/usages",
		"http://[::1]:3000/other?x=1": "http://[::1]:3000/other?x=1", "udp://127.0.0.1:3000": "udp://127.0.0.1:3000",
		"udp://localhost": "udp://localhost:3000", "unix:/run/c.sock": "unix:/run/c.sock",
	} {
		if to, err := parseTarget(s); err != nil || to.String() != want {
			t.Errorf("%s is %v, %v", s, to, err)
		}
	}
	for _, s := range []string{"", "localhost:3000", "localhost", "ftp://localhost", "http://", "http://me:pass@localhost", "unix:relative", "http://a b"} {
		if _, err := parseTarget(s); err == nil || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, o := range []Options{
		{Connections: -1},
		{Connections: 1e6},
		{Batch: 1e6},
		{Rate: -1},
		{Count: -1},
		{Compress: "br"},
		{Key: "a b"},
		{TLS: &tls.Config{}},
		{Target: "udp://localhost:1", Compress: Gzip},
		{Target: "udp://localhost:1", Token: "t"},
		{Target: "udp://localhost:1", Batch: 1000, Count: 1000},
	} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("invalid options %+v were accepted", o)
		}
	}
}

// TestRejectedUsagesAreNamed checks that a rejection leads to its line in the payload.
func TestRejectedUsagesAreNamed(t *testing.T) {
	const lines = "{\"n\":1}\n\n{\"n\":2}\n{\"n\":\n{\"n\":4}\n"
	for name, c := range map[string]struct {
		payload string
		options Options
		status  int
		answer  string
		want    []Rejection
	}{
		"a line": {
			payload: lines, options: Options{Batch: 4, Lines: true}, status: 200,
			answer: `{"accepted":3,"rejected":1,"errors":[{"index":2,"code":"invalid_json","detail":"not valid JSON at byte 20"}]}`,
			want:   []Rejection{{Where: "line 4", Status: 200, Code: "invalid_json", Detail: "not valid JSON at byte 20"}},
		},
		"a request": {
			payload: lines, options: Options{Batch: 4}, status: 400,
			answer: `{"status":400,"code":"invalid_json","detail":"not valid JSON at byte 20"}`,
			want:   []Rejection{{Where: "lines 1 to 5", Status: 400, Code: "invalid_json", Detail: "not valid JSON at byte 20", Cause: "line 4 is not a JSON object"}},
		},
		"an element of an array": {
			payload: "[{}, 7]", options: Options{Batch: 2}, status: 200,
			answer: `{"accepted":1,"rejected":1,"errors":[{"index":1,"code":"not_an_object","detail":"a\u001b[31m"}]}`,
			want:   []Rejection{{Where: "usage 2", Status: 200, Code: "not_an_object", Detail: "unprintable"}},
		},
		"an index that is none": {
			payload: "[{}, 7]", options: Options{Batch: 2}, status: 200,
			answer: `{"rejected":1,"errors":[{"index":2,"code":"a"},{"index":-1,"code":"b"}]}`,
			want:   []Rejection{},
		},
		"a wrong token": {
			payload: lines, options: Options{Batch: 1}, status: 401,
			answer: `{"code":"unauthorized"}`,
			want:   []Rejection{{Where: "line 1", Status: 401, Code: "unauthorized"}},
		},
		"a repeated token": {
			payload: lines, options: Options{Batch: 1, Token: "cd_secret"}, status: 403,
			answer: `{"code":"forbidden","detail":"not cd_secret"}`,
			want:   []Rejection{{Where: "line 1", Status: 403, Code: "unprintable"}},
		},
		"every second of many": {
			payload: strings.Repeat("{}\n7\n", 100), options: Options{Batch: 200, Lines: true}, status: 200,
			answer: manyErrors(100),
			want:   nthLines(10),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ReadPayload(strings.NewReader(c.payload))
			if err != nil {
				t.Fatal(err)
			}
			c.options.Payload = p
			c.options.Target = serve(t, &recorder{respond: func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.answer)
			}}).URL
			if s := mustRun(t, c.options); !slices.Equal(s.Rejections, c.want) {
				t.Errorf("rejections\n%+v, want\n%+v", s.Rejections, c.want)
			}
		})
	}
}

// manyErrors returns the answer to 2n usages of which each second one is rejected.
func manyErrors(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"index":%d,"code":"not_an_object"}`, 2*i+1)
	}
	return fmt.Sprintf(`{"rejected":%d,"errors":[%s]}`, n, b.String()[1:])
}

// nthLines returns the rejections of the first n even lines.
func nthLines(n int) (all []Rejection) {
	for i := range n {
		all = append(all, Rejection{Where: fmt.Sprintf("line %d", 2*i+2), Status: 200, Code: "not_an_object"})
	}
	return all
}

func TestACompressedPayloadIsNotSent(t *testing.T) {
	for _, start := range []string{"\x1f\x8b\x08", "\x28\xb5\x2f\xfd\x04"} {
		if _, err := ReadPayload(strings.NewReader(start + "{}\n")); err == nil || !strings.Contains(err.Error(), "it is compressed") {
			t.Errorf("%q: %v", start, err)
		}
	}
}
