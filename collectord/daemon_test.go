package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"collectord/collectord/testrun"
)

// binary builds the daemon once for all tests. TEST_COLLECTORD is a daemon that is built
// already, for a machine without Go.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("TEST_COLLECTORD"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "collectord-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "collectord")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as packaging builds it
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	testrun.LimitParallel()
	status := testrun.Run(m.Run)
	if path, err := binary(); err == nil && path != os.Getenv("TEST_COLLECTORD") {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// testTimeout limits the wait for an event. It is much longer than a busy machine needs.
const testTimeout = 2 * time.Minute

// daemon is a running collectord.
type daemon struct {
	t       *testing.T
	cmd     *exec.Cmd
	port    int // of HTTP and UDP
	admin   int
	exited  chan error
	ended   chan struct{} // closed once it has exited
	ready   chan struct{}
	logMu   sync.Mutex
	logText strings.Builder
}

// freePorts finds n ports that are free for TCP and UDP at every address. They are below
// the kernel's ephemeral ports, so that a restarted daemon finds its ports still free. No
// other test gets them while this program runs.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for tries := 0; len(ports) < n; tries++ {
		port := 10000 + rand.IntN(20000)
		err := claimPort(port)
		if err == nil {
			ports = append(ports, port)
		} else if tries > 1000 {
			t.Fatal(err)
		}
	}
	return ports
}

// claims are sockets that reserve ports: no other program can have their names, and no
// program connects to them.
var claims sync.Map

// claimPort reserves a port against all other tests, of this program and of others.
func claimPort(port int) error {
	name, err := net.Listen("unix", fmt.Sprintf("@collectord-test-port-%d", port))
	if err != nil {
		return err
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{Port: port})
	if err == nil {
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp", &net.UDPAddr{Port: port}); err == nil {
			udp.Close()
		}
		tcp.Close()
	}
	if err != nil {
		name.Close()
		return err
	}
	claims.Store(port, name)
	return nil
}

// command returns a command that runs the built binary with arguments.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path, args...)
}

// configure writes a configuration file for a daemon in dir. more has additional settings as
// YAML.
func configure(t *testing.T, dir, more string) (path string, port, admin int) {
	t.Helper()
	testrun.WaitPastHourEnd()
	ports := freePorts(t, 2)
	path = filepath.Join(dir, "collectord.yaml")
	more = withLongShutdown(more)
	text := fmt.Sprintf("node: edge-1\ndata_dir: %s/data\nhttp: {listen: '127.0.0.1:%d'}\nudp: {listen: '127.0.0.1:%d'}\nadmin: {listen: '127.0.0.1:%d'}\nlog: {format: text}\n%s",
		dir, ports[0], ports[0], ports[1], more)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, ports[0], ports[1]
}

// withLongShutdown sets a long shutdown time if the settings have none. On a busy machine
// the default time may end before all usages are shipped.
func withLongShutdown(settings string) string {
	if strings.Contains(settings, "shutdown:") {
		return settings
	}
	return "shutdown: {requests: 1m, datagrams: 1m, seal: 1m, grace: 1m}\n" + settings
}

// start runs the daemon and waits until it logs that it is running.
func start(t *testing.T, config string, port, admin int) *daemon {
	t.Helper()
	return startCommand(t, command(t, "run", "--config", config), port, admin)
}

// startCommand does the same as start, with a command that executes the daemon.
func startCommand(t *testing.T, run *exec.Cmd, port, admin int) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: run, port: port, admin: admin, ready: make(chan struct{})}
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.startProcess(func() {
		lines := bufio.NewScanner(stderr)
		running := false
		for lines.Scan() {
			d.logMu.Lock()
			d.logText.WriteString(lines.Text() + "\n")
			d.logMu.Unlock()
			if !running && strings.Contains(lines.Text(), "collectord is running") {
				running = true
				close(d.ready)
			}
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("daemon:\n%s", d.log())
		}
	})
	select {
	case <-d.ready:
	case err := <-d.exited:
		t.Fatalf("daemon did not start: %v\n%s", err, d.log())
	case <-time.After(testTimeout):
		t.Fatalf("the daemon does not log that it is running:\n%s", d.log())
	}
	return d
}

// startProcess starts the process and ends it with the test. follow reads its output.
// A process that still runs would write into directories while they are deleted.
func (d *daemon) startProcess(follow func()) {
	d.t.Helper()
	d.exited, d.ended = make(chan error, 1), make(chan struct{})
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() {
		follow()
		err := d.cmd.Wait()
		close(d.ended)
		d.exited <- err
	}()
	d.t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		select {
		case <-d.ended:
		case <-time.After(testTimeout): // the process hangs in the kernel, or another one still has its standard error
		}
	})
}

func (d *daemon) log() string {
	d.logMu.Lock()
	defer d.logMu.Unlock()
	return d.logText.String()
}

// stop sends SIGTERM to the daemon and waits until it has ended.
func (d *daemon) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	select {
	case err := <-d.exited:
		if err != nil {
			d.t.Fatalf("daemon ended with %v", err)
		}
	case <-time.After(testTimeout):
		d.t.Fatal("daemon does not end")
	}
}

// kill ends the daemon as kill -9 does.
func (d *daemon) kill() {
	d.t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
	<-d.exited
}

func (d *daemon) url() string { return fmt.Sprintf("http://127.0.0.1:%d/api/usages", d.port) }

// acceptedHTTP is the series that counts the usages accepted over HTTP.
const acceptedHTTP = `collectord_usages_accepted_total{source="http"}`

// metrics scrapes once. The keys of the map are the printed series.
func (d *daemon) metrics() map[string]float64 {
	d.t.Helper()
	m, err := d.scrape()
	if err != nil {
		d.t.Fatal(err)
	}
	return m
}

// scraper does not ask for compression, which would take half of a scrape's CPU time.
var scraper = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: testTimeout}}

func (d *daemon) scrape() (m map[string]float64, err error) {
	resp, err := scraper.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", d.admin))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return parseMetrics(resp.Body)
}

func parseMetrics(text io.Reader) (m map[string]float64, err error) {
	m = map[string]float64{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(series, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[series] = v
		}
	}
	return m, lines.Err()
}

// until waits for a condition that the daemon makes true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(testTimeout)
	for pause := 5 * time.Millisecond; !is(); pause = min(pause+pause/8, 50*time.Millisecond) { // asking often would delay what it waits for
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", testTimeout, what)
		}
		<-time.After(pause)
	}
}

// acknowledged records the id of each acknowledged usage, by the usage's number.
type acknowledged struct {
	mu  sync.Mutex
	ids map[int]string
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids)
}

// post posts one usage and notes its id.
func (a *acknowledged) post(client *http.Client, url string, i int) error {
	resp, err := client.Post(url, "application/json", strings.NewReader(usageText(i, "http")))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ ID string }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusCreated || err != nil {
		return fmt.Errorf("%s, %w", resp.Status, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids[i] = answer.ID
	return nil
}

// post sends usages from..to-1 over conns connections and records those answered with
// 201. With mayFail, errors are expected: the daemon is killed meanwhile.
func (d *daemon) post(acks *acknowledged, from, to, conns int, mayFail bool) {
	d.t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns}, Timeout: testTimeout}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for c := range conns {
		wg.Go(func() {
			for i := from + c; i < to; i += conns {
				err := acks.post(client, d.url(), i)
				if err != nil && !mayFail {
					d.t.Errorf("usage %d: %v", i, err)
				}
				if gone := (*url.Error)(nil); errors.As(err, &gone) {
					return
				}
			}
		})
	}
	wg.Wait()
}

func usageText(i int, via string) string {
	return fmt.Sprintf(`{"patientId":"%d","n":%d,"via":%q,"medication":"Salbutamol"}`, i%500, i, via)
}

// send sends usages from..to-1 as datagrams. It never has more in flight than the daemon
// can certainly buffer.
func (d *daemon) send(from, to int) {
	d.t.Helper()
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", d.port))
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	before := d.metrics()[`collectord_usages_received_total{source="udp"}`]
	for i := from; i < to; i++ {
		if _, err := conn.Write([]byte(usageText(i, "udp"))); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			d.t.Fatal(err)
		}
		if n := i - from + 1; n%250 == 0 || i == to-1 {
			until(d.t, "the daemon has read all datagrams", func() bool {
				return d.metrics()[`collectord_usages_received_total{source="udp"}`] >= before+float64(n)
			})
		}
	}
}
