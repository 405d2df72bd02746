package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listenOn serves on ln until the test ends.
func listenOn(t *testing.T, o Options, ln net.Listener) {
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

// beyondLoopback is an address of this machine that others could reach, if it
// has one. What is sent to it does not leave the machine.
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

// Over real sockets: what is served depends on the address a connection came to
// and, on loopback, on the name it was sent to.
func TestWhatIsServedWhere(t *testing.T) {
	everything := map[string]int{"/metrics": 200, "/livez": 200, "/readyz": 200, "/": 200, "/debug/pprof/": 200, "/debug/pprof/cmdline": 404, "/nothing": 404}
	harmless := map[string]int{"/metrics": 200, "/livez": 200, "/readyz": 200, "/": 404, "/debug/pprof/": 404, "/debug/pprof/profile": 404, "/debug/pprof/heap": 404}
	nothing := map[string]int{"/metrics": 403, "/livez": 403, "/": 403, "/debug/pprof/": 403}
	type row struct {
		network, address string
		host             string // of the request; empty: the address
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
			listenOn(t, healthy(), ln)
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

func TestSilentClientsDoNotKeepAScraperOut(t *testing.T) {
	url := serve(t, healthy())
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
	// The oldest were dismissed.
	_ = silent[0].SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the oldest silent connection: %v", err)
	}
}

func TestWhatNoScraperSendsIsRefused(t *testing.T) {
	addr := strings.TrimPrefix(serve(t, healthy()), "http://")
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
			_ = conn.SetDeadline(time.Now().Add(3 * time.Second)) // without the body, which never comes
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

func TestWhileStartingOnlyReadinessSaysSo(t *testing.T) {
	o := healthy()
	o.Snapshot = func() (Snapshot, bool) { return Snapshot{}, false }
	o.Ready = func() []string { return []string{"starting"} }
	url := serve(t, o)
	for path, want := range map[string]int{"/readyz": 503, "/livez": 200, "/metrics": 200, "/": 200} {
		if status, body := get(t, url+path); status != want || strings.Contains(body, "usages_") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// A client that begins a request and goes no further does not make a stop fail.
func TestShutdownDoesNotFailForAnUnfinishedRequest(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(healthy())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /met")
	if status, _ := get(t, "http://"+ln.Addr().String()+"/livez"); status != http.StatusOK { // it came later
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
