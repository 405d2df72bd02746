// Command bench measures collectord beside what the same machine can do without
// it, in turn and in one run, so that the ratios mean something on a machine
// that is shared and noisy.
//
//	HTTP: wrk (or collectord send) against collectord with fsync before each answer,
//	      and against nginx (or a constant Go handler) answering a constant 201
//	udp:  one sender from 10,000 datagrams a second to full blast, and where each of
//	      them went; several usages a datagram; CPU beside a bare recvmmsg loop
//	batches: arrays and NDJSON of 1,000 usages, plain and compressed, beside the
//	      log alone and the decoders alone
//	log:  durable appends, and the same bytes written and synced by a bare loop
//	segments: the log by the size of its segments, the writer of a segment with and without
//	      copies, and a start over 256 MiB that were not sealed
//	ship: shipping to a folder, and the compressor alone on the same lines
//	audit: a deep audit, and decoding the same objects alone
//	listing: audit and fleet of a million listed objects
//	cat:  cat of a folder beside zstdcat, and of many small objects in MinIO, also far away
//	million: single posts, until they are shipped to MinIO and audited
//	backlog: how long the daemon takes to start over 10 GiB that wait for upload
//	metrics: HTTP while somebody scrapes, and what counting takes
//
// With -profile it measures nothing, and records what make profile is for.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what wrk posts and the log is given. It is as long as those that
// collectord send makes up.
const usage = `{"patientId":"10012345","timestamp":"2026-11-23T08:30:12.000Z","medication":"Salbutamol","dose":1}`

func main() {
	rounds := flag.Int("rounds", 3, "rounds; the table shows medians")
	seconds := flag.Int("seconds", 4, "length of each measurement")
	binary := flag.String("binary", "bin/collectord", "the daemon to measure")
	dir := flag.String("dir", "", "where to put data (default: a temporary directory)")
	only := flag.String("only", "", "measure only this: http, udp, batches, log, segments, ship, audit, listing, cat, million, backlog, sizes or metrics")
	profile := flag.String("profile", "", "record a profile for the compiler to this file instead")
	child := flag.String(childFlag, "", "do a part of a measurement, given as JSON, in a process of its own")
	receive := flag.Bool(bareFlag, false, "be the receiver that the udp section compares with")
	flag.Parse()
	if *receive {
		if err := receiveBare(); err != nil {
			fmt.Fprintln(os.Stderr, "bare receiver:", err)
			os.Exit(1)
		}
		return
	}
	if *child != "" {
		if err := runChild(*child); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	if err := bench(*rounds, *seconds, *binary, *dir, *only, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(rounds, seconds int, binary, dir, only, profile string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "collectord-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	if profile != "" {
		return recordProfile(seconds, binary, dir, profile)
	}
	fmt.Printf("machine: %d cores, Linux %s, %s; load generators on the same machine\n", runtime.NumCPU(), kernel(), cpu())
	fmt.Printf("usage: %d bytes; %d rounds of %d s; medians; fsync before each 201\n\n", len(usage), rounds, seconds)

	if only == "" || only == "http" {
		err = benchDoors(rounds, seconds, binary, dir)
	}
	if err == nil && (only == "" || only == "udp") {
		err = benchUDP(rounds, seconds, binary, dir)
	}
	if err == nil && (only == "" || only == "batches") {
		err = benchBatches(rounds, seconds, binary, dir)
	}
	if err == nil && (only == "" || only == "log") {
		err = benchLogs(rounds, seconds, dir)
	}
	if err == nil && (only == "" || only == "segments") {
		err = benchSegments(rounds, seconds, dir)
	}
	if err == nil && (only == "" || only == "ship") {
		err = benchShip(rounds, dir)
	}
	if err == nil && (only == "" || only == "audit") {
		err = benchAudit(rounds, binary, dir)
	}
	if err == nil && (only == "" || only == "listing") {
		err = benchListing(rounds, binary, dir)
	}
	if err == nil && (only == "" || only == "cat") {
		err = benchCat(rounds, binary, dir)
	}
	if err == nil && (only == "" || only == "million") {
		err = benchMillion(binary, dir)
	}
	if err == nil && (only == "" || only == "backlog") {
		err = benchBacklog(binary, dir)
	}
	if err == nil && (only == "" || only == "sizes") {
		err = benchDaemonSizes(seconds, binary, dir)
	}
	if err == nil && (only == "" || only == "metrics") {
		err = benchMetrics(rounds, seconds, binary, dir)
	}
	return err
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}

func cpu() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return runtime.GOARCH
}

// daemon is the collectord that is measured.
type daemon struct {
	cmd       *exec.Cmd
	url, addr string
	admin     string
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

func startDaemon(binary, dir, more string) (*daemon, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "collectord.yaml")
	text := fmt.Sprintf("data_dir: %s/data\nhttp: {listen: '127.0.0.1:%d'}\nudp: {listen: '127.0.0.1:%d'}\nadmin: {listen: '127.0.0.1:%d'}\nlog: {level: error}\n%s", dir, port, port, admin, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d := &daemon{cmd: exec.Command(binary, "run", "--config", config), addr: fmt.Sprintf("127.0.0.1:%d", port), admin: fmt.Sprintf("http://127.0.0.1:%d", admin)}
	d.url = "http://" + d.addr + "/api/usages"
	d.cmd.Stderr = os.Stderr
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	return d, waitFor(d.admin + "/readyz")
}

func waitFor(url string) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode < 300 { // not while it is starting
				return nil
			}
		}
	}
	return fmt.Errorf("%s does not answer", url)
}

func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.cmd.Wait()
}

func (d *daemon) rss() (mib float64, err error) { return maxRSS(strconv.Itoa(d.cmd.Process.Pid)) }

type target struct{ name, url string }

// startConstant serves a constant 201 by nginx or, where there is none, by Go.
func startConstant(dir string) (target, func(), error) {
	port, err := freePort()
	if err != nil {
		return target{}, nil, err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, `{"id":"x"}`)
		})}
		go server.ListenAndServe()
		return target{"a constant Go handler (nginx is not installed)", url}, func() { server.Close() }, waitFor(url)
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; worker_processes auto; pid %s/nginx.pid; error_log stderr crit; events { worker_connections 2048; }
http { access_log off; client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s;
server { listen 127.0.0.1:%d; keepalive_requests 1000000000; location / { return 201 '{"id":"01a20a8b-e3b0-749f-8de0-18106c35cab3"}'; } } }`, dir, dir, dir, dir, dir, dir, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return target{}, nil, err
	}
	cmd := exec.Command(nginx, "-p", dir, "-c", config)
	if err := cmd.Start(); err != nil {
		return target{}, nil, err
	}
	stop := func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() }
	return target{"nginx, return 201", url}, stop, waitFor(url)
}

type result struct{ rate, p99 float64 } // requests a second, milliseconds

type load struct {
	name string
	run  func(url string, conns, seconds int) (result, error)
}

// loader is wrk or, where there is none, collectord send.
func loader(binary, dir string) (load, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return sendLoad(binary), nil //nolint:nilerr // as documented
	}
	script := filepath.Join(dir, "post.lua")
	text := fmt.Sprintf("wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body='%s'\n", usage)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return load{}, err
	}
	return load{"wrk, 2 threads", func(url string, conns, seconds int) (r result, err error) {
		out, err := exec.Command(wrk, "-t2", fmt.Sprintf("-c%d", conns), fmt.Sprintf("-d%ds", seconds), "--latency", "-s", script, url).CombinedOutput()
		if err != nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
			return r, fmt.Errorf("wrk: %w: %s", err, out)
		}
		rate := regexp.MustCompile(`Requests/sec:\s+([\d.]+)`).FindSubmatch(out)
		p99 := regexp.MustCompile(`99%\s+([\d.]+)(us|ms|s)`).FindSubmatch(out)
		if rate == nil || p99 == nil {
			return r, fmt.Errorf("wrk: %s", out)
		}
		r.rate, _ = strconv.ParseFloat(string(rate[1]), 64)
		r.p99, _ = strconv.ParseFloat(string(p99[1]), 64)
		r.p99 *= map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[string(p99[2])]
		return r, nil
	}}, nil
}
