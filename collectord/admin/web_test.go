package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testTimeout limits the wait for an event. It is much longer than a busy machine needs.
const testTimeout = time.Minute

// serveOn serves on ln until the test ends.
func serveOn(t *testing.T, o Options, ln net.Listener) {
	t.Helper()
	s := New(o)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		_ = s.http.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// beyondLoopback returns an address of this machine that other hosts can reach, if
// there is one. Traffic to it does not leave the machine.
func beyondLoopback(t *testing.T) (addr string, ok bool) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, isNet := a.(*net.IPNet); isNet && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			return ip.IP.String(), true
		}
	}
	return "", false
}

// This test uses real sockets. Access depends on the local address of the connection
// and, on loopback, on the host name of the request.
func TestWhatIsServedWhere(t *testing.T) {
	everything := map[string]int{"/metrics": 200, "/livez": 200, "/readyz": 200, "/": 200, "/status": 200, "/debug/pprof/": 200, "/debug/pprof/cmdline": 404, "/nothing": 404}
	harmless := map[string]int{"/metrics": 200, "/livez": 200, "/readyz": 200, "/": 404, "/status": 404, "/debug/pprof/": 404, "/debug/pprof/profile": 404, "/debug/pprof/heap": 404}
	nothing := map[string]int{"/metrics": 403, "/livez": 403, "/": 403, "/status": 403, "/debug/pprof/": 403}
	type row struct {
		network, address string
		host             string // host name in the request; if empty, the address
		want             map[string]int
	}
	rows := []row{
		{"tcp", "127.0.0.1:0", "", everything},
		{"tcp", "127.0.0.2:0", "", everything},
		{"tcp", "127.0.0.1:0", "localhost", everything},
		{"tcp", "127.0.0.1:0", "collector.localhost:80", everything},
		{"tcp", "127.0.0.2:0", "rebound.example", nothing},
		{"tcp", "127.0.0.1:0", "127.0.0.1.rebound.example:3001", nothing},
		{"tcp", "127.0.0.1:0", "192.0.2.1", nothing},
		{"tcp", "127.0.0.1:0", "LOCALHOST.:3001", everything},
		{"tcp", "127.0.0.1:0", "[::ffff:127.0.0.1]:3001", everything},
		{"tcp", "127.0.0.1:0", "[::1]", everything},
		{"tcp", "127.0.0.1:0", "rebound.example.", nothing},
		{"tcp", "127.0.0.1:0", "localhost.rebound.example", nothing},
		{"tcp", "127.0.0.1:0", "notlocalhost", nothing},
		{"tcp", "127.0.0.1:0", "rebound.example@localhost", nothing},
		{"tcp", "127.0.0.1:0", "localhost,rebound.example", nothing},
		{"tcp", "127.0.0.1:0", "0.0.0.0:3001", nothing},
		{"tcp", "0.0.0.0:0", "rebound.example", nothing},
		{"unix", filepath.Join(t.TempDir(), "admin.sock"), "anything", everything},
	}
	if addr, ok := beyondLoopback(t); ok {
		rows = append(rows, row{"tcp", addr + ":0", "", harmless}, row{"tcp", addr + ":0", "localhost", harmless},
			row{"tcp", "0.0.0.0:0", "localhost", everything})
	} else {
		t.Log("this machine has no address beyond loopback: TestProfilesStayOnThisHost covers that")
	}
	for _, r := range rows {
		t.Run(r.address+" "+r.host, func(t *testing.T) {
			ln, err := net.Listen(r.network, r.address)
			if err != nil {
				t.Fatal(err)
			}
			serveOn(t, healthyOptions(), ln)
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, r.network, ln.Addr().String())
			}}}
			defer client.CloseIdleConnections()
			for path, want := range r.want {
				req, err := http.NewRequest(http.MethodGet, "http://collector"+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = r.host
				if r.host == "" {
					req.Host = ln.Addr().String()
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("GET %s: %s, want %d", path, resp.Status, want)
				}
			}
		})
	}
}

func TestIdleAdminClientsDoNotBlockScrapes(t *testing.T) {
	url := serve(t, healthyOptions())
	addr := strings.TrimPrefix(url, "http://")
	var silent []net.Conn
	for i := range 3 * DefaultMaxConnections {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 { // half a header
			fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
		}
		silent = append(silent, c)
	}
	if status, _ := get(t, url+"/metrics"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	// The server closed the oldest connections.
	_ = silent[0].SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the oldest idle connection is not closed: %v", err)
	}
}

func TestUnexpectedAdminRequestsAreRefused(t *testing.T) {
	addr := strings.TrimPrefix(serve(t, healthyOptions()), "http://")
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"body":         {"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", 413},
		"chunked body": {"POST /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 413},
		"method":       {"DELETE /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
		"large header": {"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(testTimeout)) // the body never comes
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s, want %d", resp.Status, c.want)
			}
		})
	}
}

func TestWhileStartingOnlyReadinessFails(t *testing.T) {
	o := healthyOptions()
	o.Snapshot = func() (Snapshot, bool) { return Snapshot{}, false }
	o.Ready = func() []string { return []string{"starting"} }
	url := serve(t, o)
	for path, want := range map[string]int{"/readyz": 503, "/livez": 200, "/metrics": 200, "/": 200} {
		if status, body := get(t, url+path); status != want || strings.Contains(body, "usages_") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// A page of another site can make a browser send requests, but can't read the answers.
// Such a request must start no costly work, change nothing, and get no CORS permission.
func TestPagesOfOtherSitesStartNothing(t *testing.T) {
	addr := strings.TrimPrefix(serve(t, healthyOptions()), "http://")
	const page = "Sec-Fetch-Site: cross-site\r\n"
	for name, c := range map[string]struct {
		line, headers string
		want          int
	}{
		"a profile":                  {"GET /debug/pprof/profile?seconds=1", page, 403},
		"a trace":                    {"GET /debug/pprof/trace?seconds=1", "Sec-Fetch-Site: same-site\r\n", 403},
		"a heap":                     {"GET /debug/pprof/heap?gc=1", page, 403},
		"the index":                  {"GET /debug/pprof/", page, 403},
		"with CORS":                  {"GET /debug/pprof/heap", "Origin: http://evil.test\r\n", 403},
		"from a file":                {"GET /debug/pprof/heap", "Origin: null\r\n", 403},
		"two origins":                {"GET /debug/pprof/heap", "Origin: http://localhost\r\nOrigin: http://evil.test\r\n", 403},
		"from the status page":       {"GET /debug/pprof/", "Sec-Fetch-Site: same-origin\r\n", 200},
		"from the address bar":       {"GET /debug/pprof/", "Sec-Fetch-Site: none\r\n", 200},
		"by go tool pprof":           {"GET /debug/pprof/heap", "", 200},
		"a link to the status page":  {"GET /", page, 200},
		"metrics, unread":            {"GET /metrics", "Origin: http://evil.test\r\n" + page, 200},
		"a form":                     {"POST /", page + "Content-Type: text/plain\r\nContent-Length: 1\r\n", 413},
		"a form without fields":      {"POST /debug/pprof/symbol", "Content-Type: text/plain\r\nContent-Length: 0\r\n", 404},
		"a preflight request":        {"OPTIONS /metrics", "Origin: http://evil.test\r\nAccess-Control-Request-Method: POST\r\n", 405},
		"HTTP/1.0 without a host":    {"GET /metrics HTTP/1.0", "", 403},
		"another host in the target": {"GET http://rebound.example/metrics", "", 403},
		"a target that is not clean": {"GET /x/../debug/pprof/heap", page, 307},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(testTimeout))
			line, host := c.line+" HTTP/1.1", "Host: localhost\r\n"
			if strings.HasSuffix(c.line, "HTTP/1.0") {
				line, host = c.line, ""
			}
			fmt.Fprintf(conn, "%s\r\n%s%s\r\n", line, host, c.headers)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s, want %d", resp.Status, c.want)
			}
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("answered with %s", name)
				}
			}
		})
	}
}

// A client that sends only the beginning of a request does not make the stop fail.
func TestShutdownDoesNotFailForAnUnfinishedRequest(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(healthyOptions())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /met")
	if status, _ := get(t, "http://"+ln.Addr().String()+"/livez"); status != http.StatusOK { // a later connection
		t.Error(status)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error(err)
	}
}

// All connections have a request that does not end. Probes and scrapes must still be
// answered.
func TestLongAdminRequestsDoNotBlockProbes(t *testing.T) {
	entered, hang := make(chan struct{}), make(chan struct{})
	o := healthyOptions()
	o.Live = func() error { entered <- struct{}{}; <-hang; return nil }
	url := serve(t, o)
	defer close(hang)
	for range DefaultMaxConnections {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
		<-entered
	}
	for _, path := range []string{"/metrics", "/readyz"} {
		if status, body := get(t, url+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestProfilesAreBounded(t *testing.T) {
	s := New(healthyOptions())
	ask := func(query string) int {
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/"+query, nil))
		return w.Code
	}
	for query, want := range map[string]int{
		"heap?debug=1": 200, "heap": 200, "goroutine?debug=2": 200, "symbol": 200, "trace?seconds=0.001": 200, "profile?seconds=61": 400,
		"trace?seconds=3000": 400, "heap?seconds=3000": 400, "profile?seconds=1e9": 400, "profile?seconds=x": 400, "profile?seconds=": 400,
		"trace?seconds=NaN": 400, "trace?seconds=Inf": 400, "profile?seconds=-1": 400, "profile?seconds=1&seconds=3000": 400, "nothing": 404,
	} {
		if got := ask(query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	p := newProfiler(DefaultMaxConnections)
	slow := p.bounded(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave })
	for range maxProfiles {
		go slow(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		<-entered
	}
	defer close(leave)
	w := httptest.NewRecorder()
	slow(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("an additional profile: %d", w.Code)
	}
}

// For exactly these paths the HTTP server's 404 names the admin server.
func TestServesMatchesTheHandlers(t *testing.T) {
	url := serve(t, healthyOptions())
	for path, want := range map[string]bool{
		"/metrics": true, "/livez": true, "/readyz": true, "/status": true, "/debug/pprof": true, "/debug/pprof/": true, "/debug/pprof/heap": true,
		"/debug/pprofx": false, "/metric": false, "/metrics/": false, "/debug": false,
	} {
		if Serves(path) != want {
			t.Errorf("Serves(%q) is %t", path, !want)
		}
		if status, _ := get(t, url+path); (status == http.StatusOK) != want {
			t.Errorf("%s is answered %d", path, status)
		}
	}
}
