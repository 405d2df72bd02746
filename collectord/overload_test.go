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
)

// crowd is how many clients of a kind are slow at a time: nearly all that
// http.max_connections lets in here.
const (
	crowdSize = 1000
	maxCrowd  = 1024
)

// slowKind is a way to hold a connection and give nothing for it.
type slowKind struct {
	name    string
	first   string             // sent at once
	each    func(i int) string // if set: sent at once by client i
	dribble string             // then sent again and again
	flood   string             // sent as fast as it is taken, while no answer is read
	secure  *tls.Config        // over TLS, if not nil
}

// allSlowKinds has all ways tried to be slow; by default a few are, since each
// takes seconds.
var allSlowKinds = flag.Bool("every-slowness", false, "try all ways to be a slow client")

func slowKinds() []slowKind {
	const head = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	some := []slowKind{
		{name: "dribbling a header", first: head, dribble: "X-Slow: y\r\n"},
		{name: "dribbling a body", first: head + "Content-Length: 1000000\r\n\r\n{\"a\":\"", dribble: "x"},
		{name: "taking no answers", flood: strings.Repeat(head+"Content-Length: 7\r\n\r\nno JSON", 50)},
	}
	if !*allSlowKinds {
		return some
	}
	return append(some, []slowKind{
		{name: "saying nothing"},
		{name: "dribbling chunks", first: head + "Transfer-Encoding: chunked\r\n\r\n", dribble: "1\r\n \r\n"},
		{name: "declaring a megabyte", first: head + "Content-Length: 1048576\r\n\r\n"},
		{name: "declaring a megabyte after 12 KiB", first: head + "Content-Length: 1048576\r\n\r\n" + strings.Repeat(" ", 12<<10)},
		{name: "holding as much of a body as they may", each: func(i int) string {
			size := 15 << 10 // there is room for that of everyone
			if i%6 == 0 {
				size = 150 << 10
			}
			return head + "Content-Length: 2000000\r\n\r\n" + strings.Repeat(" ", size)
		}},
		{name: "idle", first: head + "Content-Length: 7\r\n\r\n{\"a\":1}"},
	}...)
}

// TestAThousandSlowClientsBlockNoOtherAndCostLittle lets a thousand clients of each
// kind at the daemon, as its defaults allow but for shorter times, while another
// client wants its usages stored.
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
	// What DESIGN.md allows with every limit reached.
	if peak := d.memory().peak; peak > 128<<20 {
		t.Errorf("the daemon took %d MiB at most", peak>>20)
	}
	d.stop()
}

// serveDespite lets a crowd of slow clients at the daemon until the last of them is
// cut off, while another posts.
func (d *daemon) serveDespite(kind slowKind, client *http.Client, url string) {
	t := d.t
	t.Helper()
	began := time.Now()
	slow := kind.begin(t, d, crowdSize)
	var took []time.Duration
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for held := float64(crowdSize); held > 1; { // the fast client has one
			m, err := d.scrape()
			if err != nil {
				return
			}
			held = m["collectord_http_connections"]
			<-time.After(20 * time.Millisecond)
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
	}
	lasted := time.Since(began)
	client.CloseIdleConnections()
	until(t, kind.name+" is cut off", func() bool { return d.connections() == 0 })
	slow.end()
	slices.Sort(took)
	t.Logf("%4d clients %-34s held on %4.1f s; the fast one had %5d requests answered, p99 %v; %s",
		slow.connected, kind.name+":", lasted.Seconds(), len(took), took[len(took)*99/100].Round(100*time.Microsecond), d.memory())
}

// A thousand clients that never finish their handshake, or do nothing after it,
// stop nobody either.
func TestAThousandUnfinishedHandshakesBlockNoClientAndCostLittle(t *testing.T) {
	t.Parallel() // the test mostly waits
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(1000*time.Hour))
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {header_timeout: 1s, idle_timeout: 1s, tls: {cert: %s/cert, key: %[1]s/key, client_ca: %s}, ", dir, ca.path))
	d, began := start(t, config, port, admin), time.Now()
	url := fmt.Sprintf("https://127.0.0.1:%d/api/usages", port)
	crowdOf := ca.client("crowd").Transport.(*http.Transport).TLSClientConfig.Clone()
	crowdOf.ServerName = "127.0.0.1"
	const hello = "\x16\x03\x01\x40\x00\x01\x00\xff\x00\x03\x03" // a record of 16 KiB, a hello of 64
	for _, kind := range []slowKind{
		{name: "saying nothing"},
		{name: "dribbling a hello after 12 KiB", first: hello + strings.Repeat("x", 12<<10), dribble: "x"},
		{name: "idle after the handshake", first: "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", secure: crowdOf},
	} {
		client := ca.client("edge-7")
		client.Timeout = testTimeout
		d.serveDespite(kind, client, url)
	}
	m := d.metrics()
	if n := m[`collectord_tls_handshake_failures_total{reason="timeout"}`]; n < crowdSize {
		t.Errorf("%v handshakes are counted as timed out", n)
	}
	// One line a kind, and a sum every 30 s.
	if n, limit := strings.Count(d.log(), "TLS handshakes fail"), 4+int(time.Since(began)/(30*time.Second)); n > limit {
		t.Errorf("%d lines on handshakes, at most %d are fine", n, limit)
	}
	if peak := d.memory().peak; peak > 128<<20 {
		t.Errorf("the daemon took %d MiB at most", peak>>20)
	}
	d.stop()
}

// slowClients are clients that hold on.
type slowClients struct {
	conns     []net.Conn
	connected int
	over      atomic.Bool
	running   sync.WaitGroup
}

// begin connects n clients and has them be slow.
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
			i-- // on a busy machine its time was over before that
		}
	}
	s.connected = len(s.conns)
	t.Cleanup(s.end)
	if k.dribble != "" {
		s.running.Go(func() {
			for !s.over.Load() {
				for _, c := range s.conns {
					_, _ = io.WriteString(c, k.dribble) // those that are cut off fail
				}
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

// connections is how many the daemon has open for usages.
func (d *daemon) connections() int {
	d.t.Helper()
	return int(d.metrics()["collectord_http_connections"])
}

// footprint is what the daemon takes, in bytes.
type footprint struct{ now, peak int }

func (f footprint) String() string {
	return fmt.Sprintf("RSS %d MiB, at most %d MiB so far", f.now>>20, f.peak>>20)
}

// memory is VmRSS and VmHWM of proc(5).
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

// TestConnectionsBeyondTheLimitAreAnswered has more clients than places: those
// that are idle make room, and who is turned away is told when to come back.
func TestConnectionsBeyondTheLimitAreAnswered(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 3*crowdSize {
		t.Fatalf("a limit of %d open files is too low for this test: %v", limit.Cur, err)
	}
	config, port, admin := configure(t, t.TempDir(), "")
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {max_connections: %d, ", maxCrowd))
	d := start(t, config, port, admin)
	idle := slowKind{name: "idle", first: "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"}
	slow := idle.begin(t, d, 2*crowdSize) // the first of them make room once they have been idle for a second
	// While the crowd is being turned away, not everyone is listened to first.
	for i, c := range slow.conns {
		_ = c.SetReadDeadline(time.Now().Add(testTimeout))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("client %d is neither answered nor cut off", i)
		}
	}
	until(t, "all places are taken", func() bool { return d.connections() >= crowdSize })
	const maxCut = 20 // are cut off without an answer, by a daemon that got no processor for a while
	var refused, stored, cut int
	until(t, "idle connections make room", func() bool {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testTimeout}
		resp, err := client.Post(d.url(), "application/json", strings.NewReader(`{"a":1}`))
		if err != nil {
			if cut++; cut <= maxCut {
				return false
			}
			t.Fatal(err) // cut off without an answer
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
	t.Logf("%d connections wanted; 100 requests stored, %d told to come back; %s", 2*crowdSize, refused, d.memory())
	slow.end()
	d.stop()
}
