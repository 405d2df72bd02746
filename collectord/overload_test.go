package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/collectord/testrun"
)

// crowdSize is the number of slow clients of a kind: nearly as many as
// http.max_connections allows in these tests.
const (
	crowdSize = 1000
	maxCrowd  = 1024
)

// slowKind is a way to occupy a connection without sending a usage.
type slowKind struct {
	name    string
	first   string             // sent at once
	each    func(i int) string // if not nil, client i sends this instead
	dribble string             // sent repeatedly after that
	flood   string             // sent as fast as possible, while no answer is read
	secure  *tls.Config        // over TLS, if not nil
}

// allSlowKinds makes the test try all kinds of slow clients. The default is a few, since
// each takes seconds.
var allSlowKinds = flag.Bool("every-slowness", false, "try all kinds of slow clients")

func slowKinds() []slowKind {
	const head = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	some := []slowKind{
		{name: "dribbling a header", first: head, dribble: "X-Slow: y\r\n"},
		{name: "dribbling a body", first: head + "Content-Length: 1000000\r\n\r\n{\"a\":\"", dribble: "x"},
		{name: "reading no answers", flood: strings.Repeat(head+"Content-Length: 7\r\n\r\nno JSON", 50)},
	}
	if !*allSlowKinds {
		return some
	}
	return append(some, []slowKind{
		{name: "sending nothing"},
		{name: "dribbling chunks", first: head + "Transfer-Encoding: chunked\r\n\r\n", dribble: "1\r\n \r\n"},
		{name: "declaring a megabyte", first: head + "Content-Length: 1048576\r\n\r\n"},
		{name: "declaring a megabyte after 12 KiB", first: head + "Content-Length: 1048576\r\n\r\n" + strings.Repeat(" ", 12<<10)},
		{name: "sending the largest part of a body that is allowed", each: func(i int) string {
			size := 15 << 10 // fits into the memory for all clients
			if i%6 == 0 {
				size = 150 << 10
			}
			return head + "Content-Length: 2000000\r\n\r\n" + strings.Repeat(" ", size)
		}},
		{name: "idle", first: head + "Content-Length: 7\r\n\r\n{\"a\":1}"},
	}...)
}

// TestAThousandSlowClientsBlockNoOtherAndCostLittle runs a thousand slow clients of each
// kind against a daemon with its defaults except for shorter timeouts. Another client's
// usages must still be stored.
func TestAThousandSlowClientsBlockNoOtherAndCostLittle(t *testing.T) {
	t.Parallel() // the test mostly waits
	config, port, admin := configure(t, t.TempDir(), "")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("http: {"), []byte("http: {header_timeout: 1s, body_grace: 1s, body_rate: 32KiB/s, answer_timeout: 1s, idle_timeout: 4s, "), 1)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, config, port, admin)
	for _, kind := range slowKinds() {
		d.serveDespite(kind, &http.Client{Timeout: testTimeout}, d.url())
	}
	// The documented bound with every limit reached.
	if peak := d.memory().peak; peak > 128<<20 {
		t.Errorf("the daemon took %d MiB at most", peak>>20)
	}
	d.stop()
}

// serveDespite runs slow clients until the daemon has closed the last of them, while
// another client posts.
func (d *daemon) serveDespite(kind slowKind, client *http.Client, url string) {
	t := d.t
	t.Helper()
	began := time.Now()
	crowd := crowdSize
	switch { // some take much of the processor; TEST_ALL=1 runs a thousand
	case kind.flood != "":
		crowd /= testrun.OneIn(10)
	case kind.secure != nil:
		crowd /= testrun.OneIn(4)
	}
	slow := kind.begin(t, d, crowd)
	var took []time.Duration
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for held := float64(crowd); held > 1; { // the fast client has one connection
			m, err := d.scrape()
			if err != nil {
				return
			}
			held = m["collectord_http_connections"]
			<-time.After(50 * time.Millisecond)
		}
	}()
	holding := func() bool {
		select {
		case <-gone:
			return false
		default:
			return true
		}
	}
	for n := 0; n < 200 || holding(); n++ {
		at := time.Now()
		resp, err := client.Post(url, "application/json", strings.NewReader(usageText(n, "http")))
		if err != nil {
			t.Fatalf("%s: the fast client's request %d: %v", kind.name, n, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s: the fast client's request %d: %s", kind.name, n, resp.Status)
		}
		took = append(took, time.Since(at))
		pause := time.Millisecond // so that the test does not take the processor for itself
		if n >= 200 {
			pause = 20 * time.Millisecond // only the slow clients' end is still waited for
		}
		<-time.After(pause)
	}
	lasted := time.Since(began)
	client.CloseIdleConnections()
	until(t, kind.name+" is cut off", func() bool { return d.connections() == 0 })
	slow.end()
	slices.Sort(took)
	t.Logf("%4d clients %-34s held on %4.1f s; the fast one had %5d requests answered, p99 %v; %s",
		slow.connected, kind.name+":", lasted.Seconds(), len(took), took[len(took)*99/100].Round(100*time.Microsecond), d.memory())
}

// A thousand clients that never finish their handshake, or send nothing after it, block no
// other client either.
func TestAThousandUnfinishedHandshakesBlockNoClientAndCostLittle(t *testing.T) {
	t.Parallel() // the test mostly waits
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(1000*time.Hour))
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {header_timeout: 1s, idle_timeout: 1s, tls: {cert: %s/cert, key: %[1]s/key, client_ca: %s}, ", dir, ca.path))
	d, began := start(t, config, port, admin), time.Now()
	url := fmt.Sprintf("https://127.0.0.1:%d/api/usages", port)
	slowTLS := ca.client("crowd").Transport.(*http.Transport).TLSClientConfig.Clone()
	slowTLS.ServerName = "127.0.0.1"
	const hello = "\x16\x03\x01\x40\x00\x01\x00\xff\x00\x03\x03" // a record of 16 KiB, a hello of 64
	for _, kind := range []slowKind{
		{name: "sending nothing"},
		{name: "dribbling a hello after 12 KiB", first: hello + strings.Repeat("x", 12<<10), dribble: "x"},
		{name: "idle after the handshake", first: "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", secure: slowTLS},
	} {
		client := ca.client("edge-7")
		client.Timeout = testTimeout
		d.serveDespite(kind, client, url)
	}
	m := d.metrics()
	if n := m[`collectord_tls_handshake_failures_total{reason="timeout"}`]; n < crowdSize {
		t.Errorf("%v handshakes are counted as timed out", n)
	}
	// Expect one line for each kind, and a summary every 30 s.
	if n, limit := strings.Count(d.log(), "TLS handshakes fail"), 4+int(time.Since(began)/(30*time.Second)); n > limit {
		t.Errorf("%d lines about handshakes, want at most %d", n, limit)
	}
	if peak := d.memory().peak; peak > 128<<20 {
		t.Errorf("the daemon took %d MiB at most", peak>>20)
	}
	d.stop()
}

// slowClients are the connections of slow clients.
type slowClients struct {
	conns     []net.Conn
	connected int
	over      atomic.Bool
	running   sync.WaitGroup
}

// begin connects n clients and starts their slow behaviour.
func (k slowKind) begin(t *testing.T, d *daemon, n int) *slowClients {
	t.Helper()
	s := &slowClients{}
	for i, busy := 0, time.Now(); i < n; i++ {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
		if err != nil {
			t.Fatalf("%s: client %d: %v", k.name, i, err)
		}
		if k.secure != nil {
			c = tls.Client(c, k.secure)
		}
		s.conns = append(s.conns, c)
		if k.flood != "" {
			_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			s.running.Go(func() {
				for {
					if _, err := io.WriteString(c, k.flood); err != nil {
						return
					}
				}
			})
			continue
		}
		first := k.first
		if k.each != nil {
			first = k.each(i)
		}
		if _, err := io.WriteString(c, first); err != nil {
			if time.Since(busy) > testTimeout {
				t.Fatalf("%s: client %d: %v", k.name, i, err)
			}
			i-- // on a busy machine the server's timeout may end before the client sends
		}
	}
	s.connected = len(s.conns)
	t.Cleanup(s.end)
	if k.dribble != "" {
		s.running.Go(func() {
			for !s.over.Load() {
				for _, c := range s.conns {
					_, _ = io.WriteString(c, k.dribble) // fails for closed connections
				}
				<-time.After(100 * time.Millisecond) // much sooner than any time limit
			}
		})
	}
	return s
}

func (s *slowClients) end() {
	s.over.Store(true)
	for _, c := range s.conns {
		c.Close()
	}
	s.running.Wait()
}

// connections returns the number of the daemon's open connections for usages.
func (d *daemon) connections() int {
	d.t.Helper()
	return int(d.metrics()["collectord_http_connections"])
}

// footprint is the daemon's memory in bytes.
type footprint struct{ now, peak int }

func (f footprint) String() string {
	return fmt.Sprintf("RSS %d MiB, at most %d MiB so far", f.now>>20, f.peak>>20)
}

// memory reads VmRSS and VmHWM (proc(5)).
func (d *daemon) memory() (f footprint) {
	d.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		kib, err := strconv.Atoi(fields[1])
		if err != nil {
			d.t.Fatal(err)
		}
		switch fields[0] {
		case "VmRSS:":
			f.now = kib << 10
		case "VmHWM:":
			f.peak = kib << 10
		}
	}
	return f
}

// TestConnectionsBeyondTheLimitAreAnswered has more clients than the limit of connections.
// Idle connections are closed for new ones, and refused clients get Retry-After.
func TestConnectionsBeyondTheLimitAreAnswered(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 3*crowdSize {
		t.Fatalf("a limit of %d open files is too low for this test: %v", limit.Cur, err)
	}
	config, port, admin := configure(t, t.TempDir(), "")
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {max_connections: %d, ", maxCrowd))
	d := start(t, config, port, admin)
	idle := slowKind{name: "idle", first: "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"}
	slow := idle.begin(t, d, 2*crowdSize) // the first can be closed after they have been idle for a second
	// The server may refuse a client before it has read the client's request.
	for i, c := range slow.conns {
		_ = c.SetReadDeadline(time.Now().Add(testTimeout))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("client %d is neither answered nor cut off", i)
		}
	}
	until(t, "all connections are in use", func() bool { return d.connections() >= crowdSize })
	const maxCut = 20 // connections closed without an answer, by a daemon that got no CPU for a while
	var refused, stored, cut int
	until(t, "an idle connection is closed for a new one", func() bool {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testTimeout}
		resp, err := client.Post(d.url(), "application/json", strings.NewReader(`{"a":1}`))
		if err != nil {
			if cut++; cut <= maxCut {
				return false
			}
			t.Fatal(err) // closed without an answer
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		switch {
		case resp.StatusCode == http.StatusCreated:
			stored++
		case resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), "overloaded") && resp.Header.Get("Retry-After") != "" && resp.Close:
			refused++
		default:
			t.Fatalf("%s %s", resp.Status, body)
		}
		return stored >= 100
	})
	if n := d.connections(); n > maxCrowd {
		t.Errorf("%d connections are open", n)
	}
	t.Logf("%d connections wanted; 100 requests stored, %d refused with Retry-After; %s", 2*crowdSize, refused, d.memory())
	slow.end()
	d.stop()
}
