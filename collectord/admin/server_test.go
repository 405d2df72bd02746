package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal"
)

// healthyOptions returns the options of a daemon that received 7 usages over HTTP. It
// rejected 2 of them, and 1 waits for its commit.
func healthyOptions() Options {
	return Options{
		Version: "1.2.3",
		Snapshot: func() (s Snapshot, ok bool) {
			s.Ledger.BySource[wal.HTTP] = wal.SourceLedger{
				Received: 7, Accepted: 5, Appended: 4, Waiting: 1,
				Rejected: map[string]uint64{"invalid_json": 2},
			}
			s.Ledger.Pending = 4
			s.HTTP.Requests = map[int]uint64{201: 4, 400: 2}
			return s, true
		},
		Ready:  func() []string { return nil },
		Live:   func() error { return nil },
		Status: func() Status { return Status{Verdict: Fine, Summary: "all is shipped"} },
		Page:   finePage,
	}
}

func serve(t *testing.T, o Options) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(o)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// failingListener fails to accept connections with some errors, and then is over.
type failingListener struct{ errs []error }

func (l *failingListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
}
func (*failingListener) Close() error   { return nil }
func (*failingListener) Addr() net.Addr { return &net.TCPAddr{} }

// The daemon stops with its admin server, so a failure to accept one connection must not end
// that.
func TestServeContinuesAfterErrorsThatPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &failingListener{[]error{syscall.EMFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EPERM, syscall.EPROTO, syscall.EINVAL}}
		if err := New(healthyOptions()).Serve(ln); !errors.Is(err, syscall.EINVAL) || len(ln.errs) > 0 {
			t.Errorf("%v, and %d errors were not reached", err, len(ln.errs))
		}
	})
}

func TestMetricsShowTheLedger(t *testing.T) {
	status, body := get(t, serve(t, healthyOptions())+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	for _, line := range []string{
		`collectord_build_info{go_version="` + runtime.Version() + `",version="1.2.3"} 1`,
		`collectord_usages_received_total{source="http"} 7`,
		`collectord_usages_received_total{source="udp"} 0`,
		`collectord_usages_accepted_total{source="http"} 5`,
		`collectord_usages_rejected_total{reason="invalid_json",source="http"} 2`,
		`collectord_usages_appended_total{source="http"} 4`,
		`collectord_usages_waiting{source="http"} 1`,
		`collectord_usages_pending 4`,
		`collectord_http_requests_total{status="201"} 4`,
		`collectord_http_requests_total{status="400"} 2`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

func TestHealthChecksReportWhatIsWrong(t *testing.T) {
	url := serve(t, healthyOptions())
	for _, path := range []string{"/livez", "/readyz"} {
		if status, body := get(t, url+path); status != http.StatusOK || body != "ok\n" {
			t.Errorf("%s of a healthy daemon answers %d %q", path, status, body)
		}
	}
	sick := healthyOptions()
	sick.Ready = func() []string { return []string{"the log is full", "draining"} }
	sick.Live = func() error { return errors.New("the committer hangs") }
	began, since := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 8, 30, 0, 0, time.UTC)
	sick.Status = func() Status {
		return Status{
			Verdict: Failing, Summary: "the log is full",
			Destination: Destination{Where: "s3://b/p", FailingSince: &since, LastSuccess: &began, Error: &ErrorStatus{Text: "refused", Advice: "start it"}},
			Troubles:    []Trouble{{Name: "full", Message: "the log is full", Since: since, Times: 2, Error: "no room", Advice: "make some"}},
			PutAside:    []PutAside{{Path: "wal/quarantine/next-1", Reason: "torn"}},
		}
	}
	url = serve(t, sick)
	want := "the log is full\ndraining\nverdict: failing; the log is full\n" +
		"destination s3://b/p: failing since 2026-11-23T08:30:00Z; error: refused; advice: start it; last success 2026-11-23T08:00:00Z\n" +
		"trouble full: the log is full; since 2026-11-23T08:30:00Z; times 2; error: no room; advice: make some\n" +
		"put aside: \"wal/quarantine/next-1\": \"torn\"\n"
	if status, body := get(t, url+"/readyz?verbose"); status != http.StatusServiceUnavailable || body != want {
		t.Errorf("readyz?verbose: %d %q", status, body)
	}
	if status, body := get(t, url+"/readyz"); status != http.StatusServiceUnavailable || body != "the log is full\ndraining\n" {
		t.Errorf("readyz: %d %q", status, body)
	}
	if status, body := get(t, url+"/livez"); status != http.StatusServiceUnavailable || body != "the committer hangs\n" {
		t.Errorf("livez: %d %q", status, body)
	}
}

// TestDetailsStayOnThisHost requests the endpoints that name files, the destination and
// errors. They are served on loopback only, and there only for a loopback host name: a
// web page could make another name resolve to this host.
func TestDetailsStayOnThisHost(t *testing.T) {
	handler := New(healthyOptions()).http.Handler
	for _, c := range []struct {
		to      net.Addr
		details bool
	}{
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3001}, false},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 3001}, true},
		{&net.UnixAddr{Name: "admin.sock", Net: "unix"}, true},
	} {
		r := httptest.NewRequest(http.MethodGet, "/readyz?verbose", nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.to)))
		if got := strings.Contains(w.Body.String(), "verdict: "); got != c.details {
			t.Errorf("at %s: details: %v, want %v: %s", c.to, got, c.details, w.Body)
		}
	}
}

func TestProfilesStayOnThisHost(t *testing.T) {
	handler := New(healthyOptions()).http.Handler
	lan := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3001}
	loop := &net.TCPAddr{IP: net.IPv6loopback, Port: 3001}
	for _, c := range []struct {
		to   net.Addr
		host string
		path string
		want int
	}{
		{loop, "localhost:3001", "/debug/pprof/", 200},
		{loop, "[::1]:3001", "/debug/pprof/", 200},
		{loop, "127.0.0.1", "/", 200},
		{loop, "LOCALHOST.", "/metrics", 200},
		{loop, "evil.example", "/", 403},
		{loop, "127.0.0.1.evil.example:3001", "/metrics", 403},
		{loop, "", "/metrics", 403},
		{lan, "collector.example:3001", "/metrics", 200},
		{lan, "collector.example:3001", "/readyz", 200},
		{lan, "localhost", "/", 404},
		{lan, "localhost", "/debug/pprof/", 404},
		{&net.UnixAddr{Name: "admin.sock", Net: "unix"}, "anything", "/debug/pprof/", 200},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.to)))
		if w.Code != c.want {
			t.Errorf("GET %s at %s for host %q: %d, want %d", c.path, c.to, c.host, w.Code, c.want)
		}
	}
}
