//go:build torture

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/collectord/httpserver"
)

// proxy is a proxy before daemons, with the packaged configuration.
type proxy struct {
	t    *testing.T
	port int
	log  string // of nginx: for each request a line with the upstreams' statuses and the one that the client got
}

// startNginx runs packaging/nginx.conf on a free port with one to three collectors. nginx
// keeps idle connections to the collectors for the time keepalive.
func startNginx(t *testing.T, keepalive string, collectors ...*daemon) *proxy {
	t.Helper()
	return startNginxWith(t, keepalive, nil, collectors...)
}

// startNginxWith does the same as startNginx, with more changes to the configuration.
func startNginxWith(t *testing.T, keepalive string, changes map[string]string, collectors ...*daemon) *proxy {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // nginx workers run as another user
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := &proxy{t: t, port: freePorts(t, 1)[0], log: filepath.Join(dir, "access.log")}
	replaced := map[string]string{
		"listen 80;":               fmt.Sprintf("listen 127.0.0.1:%d;", p.port),
		"keepalive_timeout 60s;":   "keepalive_timeout " + keepalive + ";",
		"client_max_body_size 4m;": fmt.Sprintf("client_max_body_size 4m; client_body_temp_path %s/body; proxy_temp_path %s/proxy;", dir, dir),
	}
	maps.Copy(replaced, changes)
	server := regexp.MustCompile(`(?m)^ +server 10\.0\.0\.1([123]):3000 (max_fails=0|fail_timeout=1s);\n`)
	text := packagedConfig(t, "nginx.conf", server, collectors, replaced)
	main := fmt.Sprintf(`daemon off;
worker_processes 2;
pid %[1]s/pid;
error_log %[1]s/error.log error;
events { worker_connections 4096; }
http {
    log_format upstream '$upstream_status|$status';
    access_log %[1]s/access.log upstream;
    keepalive_requests 1000000;
    keepalive_timeout 600s; # of clients
    fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
    include %[1]s/collectord.conf;
}
`, dir)
	for name, content := range map[string]string{"nginx.conf": main, "collectord.conf": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "nginx.conf")
	if out, err := exec.Command("nginx", "-t", "-c", config).CombinedOutput(); err != nil {
		t.Fatalf("nginx does not accept packaging/nginx.conf: %v: %s", err, out)
	}
	cmd := exec.Command("nginx", "-c", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if text, err := os.ReadFile(filepath.Join(dir, "error.log")); err == nil && t.Failed() {
			t.Logf("nginx: %.4000s", text)
		}
	})
	p.waitReady()
	return p
}

// lines returns the lines of the access log.
func (p *proxy) lines() []string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// load posts through the proxy until stop is closed. The clients pause for about the given
// time between requests. load returns the number of stored usages. Any answer other than 201
// is an error.
func (p *proxy) load(clients int, pause time.Duration, stop <-chan struct{}) (stored int64) {
	p.t.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: testTimeout}
	defer client.CloseIdleConnections()
	for c := range clients {
		wg.Go(func() {
			for i := 0; ; i++ {
				var wait <-chan time.Time
				if pause > 0 {
					wait = time.After(pause * time.Duration(80+(c+7*i)%40) / 100)
				} else {
					closed := make(chan time.Time)
					close(closed)
					wait = closed
				}
				select {
				case <-stop:
					return
				case <-wait:
				}
				resp, err := client.Post(fmt.Sprintf("http://127.0.0.1:%d/api/usages", p.port), "application/json", strings.NewReader(usageText(c<<20+i, "http")))
				if err != nil {
					p.t.Errorf("client %d: %v", c, err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					p.t.Errorf("client %d: %s %s", c, resp.Status, body)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return n.Load()
}

func closedAfter(d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	time.AfterFunc(d, func() { close(done) })
	return done
}

// With keepalive_timeout below http.idle_timeout no request meets a closing connection:
// nginx repeats no request and answers no 502.
func TestNginxKeepsConnectionsWithoutRandomErrors(t *testing.T) {
	skipMissing(t, notInstalled("nginx"))
	config, port, admin := configure(t, t.TempDir(), "")
	d := start(t, config, port, admin)
	d.rewriteConfig(config, "http: {", "http: {idle_timeout: 3s, ") // nginx may run late by two seconds
	d.untilLogged("http.idle_timeout: 75s -> 3s")
	p := startNginx(t, "1s", d)
	stored := p.load(16, 0, closedAfter(3*time.Second))
	// The pauses are about as long as nginx and collectord keep connections.
	stored += p.load(32, time.Second, closedAfter(4*time.Second))
	stored += p.load(32, 3*time.Second, closedAfter(8*time.Second))
	repeated := 0
	for _, line := range p.lines() {
		if line != "201|201" && line != "200|200" {
			repeated++
			t.Errorf("nginx needed more than one attempt: %s", line)
		}
	}
	if got := int64(d.metrics()[`collectord_usages_accepted_total{source="http"}`]); got != stored {
		t.Errorf("%d answered, %d stored", stored, got)
	}
	t.Logf("%d requests through nginx, %d repeated by it", stored, repeated)
	d.stop()
}

// Each of two collectors behind nginx may be restarted at any time.
func TestNginxHidesRestarts(t *testing.T) {
	skipMissing(t, notInstalled("nginx"))
	var daemons []*daemon
	var configs []string
	for range 2 {
		config, port, admin := configure(t, t.TempDir(), "")
		daemons = append(daemons, start(t, config, port, admin))
		configs = append(configs, config)
	}
	p := startNginx(t, "1s", daemons...)
	stop, answered := make(chan struct{}), make(chan int64)
	go func() { answered <- p.load(16, 0, stop) }()
	const restarts = 6
	for i := range restarts {
		n := len(p.lines())
		until(t, "requests arrive", func() bool { return len(p.lines()) > n+200 })
		d := daemons[i%2]
		d.stop()
		daemons[i%2] = start(t, configs[i%2], d.port, d.admin)
	}
	close(stop)
	stored := <-answered
	repeated := p.countRepeats()
	records, ids := 0, map[string]bool{}
	for i, d := range daemons {
		d.stop()
		all, _ := download(t, configs[i])
		records += len(all)
		for _, r := range all {
			ids[r.ID] = true
		}
	}
	if int64(len(ids)) != stored {
		t.Errorf("%d answered, %d ids in %d records", stored, len(ids), records)
	}
	t.Logf("%d restarts, %d requests answered, all 201; %d repeated by nginx; %d records", restarts, stored, repeated, records)
}

// unresponsivePort returns a port that neither accepts nor refuses connections, like an
// unreachable host.
func unresponsivePort(t *testing.T) (port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	port = freePorts(t, 1)[0]
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for { // until the listen queue is full
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 200*time.Millisecond)
		if err != nil {
			return port
		}
		t.Cleanup(func() { c.Close() })
	}
}

// An unreachable host delays at most its share of the first requests. After that it delays
// about one request each second.
func TestNginxHardlyWaitsForAnUnreachableHost(t *testing.T) {
	skipMissing(t, notInstalled("nginx"))
	collectors := []*daemon{{t: t, port: unresponsivePort(t)}}
	for range 2 {
		config, port, admin := configure(t, t.TempDir(), "")
		collectors = append(collectors, start(t, config, port, admin))
	}
	p := startNginx(t, "60s", collectors...)
	const clients, seconds = 16, 6
	stored := p.load(clients, 0, closedAfter(seconds*time.Second))
	delayed := 0
	for _, line := range p.lines() {
		delayed += strings.Count(line, "504, ")
	}
	if delayed == 0 || delayed > clients/2+seconds || stored < 1000 {
		t.Errorf("%d of %d requests waited", delayed, stored)
	}
	t.Logf("%d of %d requests waited for an unreachable host, all were stored", delayed, stored)
}

// nginx skips a collector that refuses, as long as another one accepts. If all refuse, clients
// get the answer of a collector and not one of nginx.
func TestNginxAsksTheNextCollectorWhereOneRefuses(t *testing.T) {
	skipMissing(t, notInstalled("nginx"))
	const full, free = "wal: {min_free: 1000000GiB}", "wal: {min_free: 0}"
	var daemons []*daemon
	var configs []string
	for range 3 {
		config, port, admin := configure(t, t.TempDir(), full+"\n")
		configs = append(configs, config)
		daemons = append(daemons, start(t, config, port, admin))
	}
	rewrite := func(i int, from, to, key string) {
		t.Helper()
		daemons[i].rewriteConfig(configs[i], from, to)
		daemons[i].untilLogged(key)
	}
	rewrite(2, full, free, "wal.min_free: ")
	p := startNginx(t, "60s", daemons...)
	do := func(method, path, body string) (status int, code, retryAfter string) {
		t.Helper()
		req, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", p.port, path), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var problem struct{ Code string }
		_ = json.NewDecoder(resp.Body).Decode(&problem)
		return resp.StatusCode, problem.Code, resp.Header.Get("Retry-After")
	}
	usage := strings.Repeat(usageText(0, "http")+"\n", 100)
	large := strings.Repeat(usageText(0, "http")+"\n", 4<<20/len(usageText(0, "http\n"))) // nginx buffers it in a file
	for i, body := range []string{large, usage, usage, usage, large} {
		if status, code, _ := do("POST", "/api/usages", body); status != http.StatusCreated {
			t.Errorf("request %d, %d bytes: %d %s", i, len(body), status, code)
		}
	}
	refusals := 0
	for _, line := range p.lines() {
		refusals += strings.Count(line, "503, ")
	}
	if refusals == 0 {
		t.Error("no collector refused")
	}
	// A 429 goes to the client, although another collector might accept the request.
	rewrite(2, "http: {", "http: {rate: 1, ", "http.rate: ")
	limited := func() bool {
		status, code, after := do("POST", "/api/usages", usage)
		return status == http.StatusTooManyRequests && code == httpserver.CodeRateLimited && after != ""
	}
	until(t, "the rate is used up", limited)
	rewrite(0, full, free, "wal.min_free: ")
	rewrite(1, full, free, "wal.min_free: ")
	until(t, "a client gets 429 although others have capacity", limited)
	rewrite(2, "http: {rate: 1, ", "http: {", "http.rate: 1 -> ")
	for i := range daemons {
		rewrite(i, free, full, "wal.min_free: 0 -> ")
	}
	health := func() int {
		status, _, _ := do("GET", "/healthz", "")
		return status
	}
	until(t, "all collectors are full", func() bool { return health() == http.StatusServiceUnavailable })
	for range 50 {
		if status, code, after := do("POST", "/api/usages", usage); status != http.StatusServiceUnavailable || code != httpserver.CodeLogFull || after == "" {
			t.Errorf("all collectors are full: %d %s, Retry-After %q", status, code, after)
		}
	}
	for _, path := range []string{"/", "/metrics", "/readyz"} {
		if status, _, _ := do("GET", path, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	rewrite(1, full, free, "wal.min_free: 1000000GiB -> 0")
	until(t, "one collector is no longer full", func() bool { return health() == http.StatusOK })
	for range 50 {
		if status, code, _ := do("POST", "/api/usages", usage); status != http.StatusCreated {
			t.Errorf("one collector is not full: %d %s", status, code)
		}
	}
}

// smugglingRequests returns requests whose end two servers may see at different places. Each
// contains a hidden request, or is followed by one.
func smugglingRequests() map[string]string {
	const hidden = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{\"hidden\":true}"
	const post = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	chunks := "2\r\n{}\r\n0\r\n\r\n" + hidden
	return map[string]string{
		"two lengths":           post + "Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}" + hidden,
		"length and chunks":     post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
		"chunks and length":     post + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n" + chunks,
		"xchunked":              post + "Transfer-Encoding: xchunked\r\n\r\n" + chunks,
		"chunked, identity":     post + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunks,
		"chunked twice":         post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
		"chunked and another":   post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + chunks,
		"bare LF":               strings.ReplaceAll(post, "\r\n", "\n") + "Content-Length: 2\n\n{}" + hidden,
		"bare LF in one line":   "POST /api/usages HTTP/1.1\r\nHost: localhost\nContent-Length: 2\r\n\r\n{}" + hidden,
		"chunked in HTTP/1.0":   strings.Replace(post, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n" + chunks,
		"continued line":        post + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunks,
		"continued other line":  post + "X: a\r\n Content-Length: 90\r\nContent-Length: 2\r\n\r\n{}" + hidden,
		"space before colon":    post + "Content-Length : 2\r\n\r\n{}" + hidden,
		"chunked, space before": post + "Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n" + chunks,
		"NUL":                   post + "X: a\x00b\r\nContent-Length: 2\r\n\r\n{}" + hidden,
	}
}

// sendRaw sends raw bytes and returns the statuses of the answers until the other side
// closes.
func sendRaw(t *testing.T, port int, request string) (all []int, closed bool) {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return all, !errors.Is(err, os.ErrDeadlineExceeded)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		all = append(all, resp.StatusCode)
	}
}

func TestNginxAndCollectordAgreeOnWhereRequestsEnd(t *testing.T) {
	skipMissing(t, notInstalled("nginx"))
	config, port, admin := configure(t, t.TempDir(), "")
	d := start(t, config, port, admin)
	p := startNginx(t, "1s", d)
	for name, request := range smugglingRequests() {
		before := d.metrics()
		all, closed := sendRaw(t, d.port, request)
		m := d.metrics()
		if len(all) != 1 || all[0] < 400 || !closed || m[acceptedHTTP] != before[acceptedHTTP] {
			t.Errorf("%s: answered %v, closed %v, stored %v", name, all, closed, m[acceptedHTTP]-before[acceptedHTTP])
		}
		// nginx may correct a request before forwarding it. Both servers must count the same
		// number of requests.
		lines := len(p.lines())
		before = d.metrics()
		all, _ = sendRaw(t, p.port, request)
		until(t, "nginx has logged its answers", func() bool { return len(p.lines()) >= lines+len(all) })
		passed := 0
		for _, line := range p.lines()[lines:] {
			if !strings.HasPrefix(line, "-|") {
				passed++
			}
		}
		if got := totalRequests(d.metrics()) - totalRequests(before); got != float64(passed) {
			t.Errorf("%s: nginx answered %v and passed on %d requests, collectord saw %v", name, all, passed, got)
		}
		t.Logf("%-22s through nginx: answered %v, %d passed on", name+",", all, passed)
	}
	d.stop()
}

func totalRequests(m map[string]float64) (n float64) {
	series := regexp.MustCompile(`^collectord_http_requests_total\{`)
	for name, v := range m {
		if series.MatchString(name) {
			n += v
		}
	}
	return n
}
