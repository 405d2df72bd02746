//go:build packages

package test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var restarts = flag.Int("restarts", 50, "how often the daemon is restarted under load")

// load is a number of clients that post one usage after another, and the results.
type load struct {
	m        *machine
	stop     chan struct{}
	clients  sync.WaitGroup
	attempts atomic.Int64
	udpSent  atomic.Int64

	mu     sync.Mutex     // guards what follows
	stored []string       // ids
	failed map[string]int // by kind
}

// startLoad starts clients with and without keep-alive, and a sender of datagrams.
func startLoad(m *machine) *load {
	l := &load{m: m, stop: make(chan struct{}), failed: map[string]int{}}
	for i := range 16 {
		transport := &http.Transport{DialContext: m.dial, DisableKeepAlives: i%2 == 0}
		client := *m
		client.Client = http.Client{Transport: transport, Timeout: 30 * time.Second}
		l.clients.Add(1)
		go func() {
			defer l.clients.Done()
			defer transport.CloseIdleConnections()
			l.run(&client)
		}()
	}
	l.clients.Add(1)
	go func() { defer l.clients.Done(); l.sendDatagrams() }()
	return l
}

// pause waits between requests. It returns false when the load ends.
func (l *load) pause(d time.Duration) bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (l *load) run(client *machine) {
	for l.pause(2 * time.Millisecond) {
		n := l.attempts.Add(1)
		id, err := client.post(fmt.Sprintf(`{"patientId":"%d"}`, n))
		l.mu.Lock()
		if err == nil {
			l.stored = append(l.stored, id)
		} else {
			l.failed[errorKind(err)]++
		}
		l.mu.Unlock()
	}
}

// errorKind returns the kind of an error: a text without ports and other long numbers.
func errorKind(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, io.EOF):
		return "connection closed"
	}
	return regexp.MustCompile(`[0-9]{4,}`).ReplaceAllString(err.Error(), "N")
}

func (l *load) sendDatagrams() {
	var conn net.PacketConn
	if err := l.m.inside(func() (err error) { conn, err = net.ListenPacket("udp", "127.0.0.1:0"); return err }); err != nil {
		l.m.t.Error(err)
		return
	}
	defer conn.Close()
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3000}
	for l.pause(time.Millisecond) {
		if _, err := conn.WriteTo([]byte(`{"datagram":true}`), to); err == nil {
			l.udpSent.Add(1)
		}
	}
}

// end stops the clients and returns how many requests failed.
func (l *load) end() int {
	close(l.stop)
	l.clients.Wait()
	n := 0
	for _, f := range l.failed {
		n += f
	}
	return n
}

// stopAndReport ends the load and logs its results. It fails the test if a request failed,
// an acknowledged usage is not in the archive, or a datagram is neither stored nor counted.
func (l *load) stopAndReport(what string) {
	t, m := l.m.t, l.m
	t.Helper()
	failed := l.end()
	m.do("systemctl", "kill", "--signal=USR1", "collectord.service")
	waitUntil(t, "all is shipped", func() bool { return m.metric("collectord_usages_pending") == 0 })
	there := map[string]bool{}
	datagrams := 0
	for line := range strings.Lines(m.do("collectord", "cat")) {
		_, rest, _ := strings.Cut(line, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		there[id] = true
		if strings.Contains(line, `"via":"udp"`) {
			datagrams++
		}
	}
	lost := 0
	for _, id := range l.stored {
		if !there[id] {
			lost++
		}
	}
	t.Logf("%s under load: %d requests, %d answered 201, %d failed", what, l.attempts.Load(), len(l.stored), failed)
	for _, k := range slices.Sorted(maps.Keys(l.failed)) {
		t.Logf("  %s: %d", k, l.failed[k])
	}
	drops := m.metric("collectord_udp_kernel_drops_total")
	t.Logf("  datagrams: %d sent, %d in the archive, %d dropped by the kernel", l.udpSent.Load(), datagrams, drops)
	if int(l.udpSent.Load()) != datagrams+drops {
		t.Errorf("%d of %d datagrams are neither stored nor counted", int(l.udpSent.Load())-datagrams-drops, l.udpSent.Load())
	}
	if failed > 0 {
		t.Errorf("%d requests failed", failed)
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged usages are not in the archive", lost, len(l.stored))
	}
	if len(l.stored) == 0 {
		t.Error("the load sent nothing")
	}
}

// metric returns the value of a metric, summed over all labels.
func (m *machine) metric(name string) int {
	m.t.Helper()
	answer, err := m.Get("http://127.0.0.1:3001/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^`+name+`(?:\{.*\})? (\S+)$`).FindAllSubmatch(body, -1)
	if found == nil {
		m.t.Fatalf("there is no %s", name)
	}
	sum := 0.0
	for _, f := range found {
		value, err := strconv.ParseFloat(string(f[1]), 64)
		if err != nil {
			m.t.Fatal(err)
		}
		sum += value
	}
	return int(sum)
}

func TestUpgradeUnderLoadFailsNoRequest(t *testing.T) {
	m := boot(t, tree(t))
	m.install(earlier)
	deb(t, later) // built before there is load
	l := startLoad(m)
	stored := func() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.stored) }
	waitUntil(t, "the load runs", func() bool { return stored() > 500 })
	m.install(later)
	was := stored()
	waitUntil(t, "the load continues", func() bool { return stored() > was+500 })
	l.stopAndReport("one upgrade")
}

func TestRestartsUnderLoadFailNoRequest(t *testing.T) {
	m := boot(t, tree(t))
	m.install(earlier)
	l := startLoad(m)
	stored := func() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.stored) }
	for range *restarts {
		was := stored()
		waitUntil(t, "the load continues", func() bool { return stored() > was+200 })
		m.do("systemctl", "restart", "collectord")
	}
	l.stopAndReport(strconv.Itoa(*restarts) + " restarts")
}

// watchdog shortens the watchdog's time, so that a test can wait for it.
func (m *machine) watchdog() {
	m.t.Helper()
	if was := m.unitProperty("WatchdogUSec"); was != "1min" {
		m.t.Errorf("WatchdogUSec=%s", was)
	}
	m.write("/etc/systemd/system/collectord.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
	m.do("systemctl", "daemon-reload")
	m.do("systemctl", "restart", "collectord")
}

func TestFrozenDaemonIsRestartedByTheWatchdog(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.install(earlier)
	m.watchdog()
	id := m.store(`{"patientId":"100"}`)
	frozen := m.pid()
	m.do("kill", "-STOP", strconv.Itoa(frozen))
	waitUntil(t, "the daemon is restarted", func() bool { return m.pid() != frozen && m.unitProperty("ActiveState") == "active" })
	m.ship(id)
}

func TestOutageOfTheBucketRestartsNothing(t *testing.T) {
	t.Parallel()
	minio := os.Getenv("TEST_MINIO")
	if minio == "" {
		t.Fatal("TEST_MINIO names no program: run make package-test")
	}
	m := boot(t, tree(t))
	m.install(earlier)
	m.configure("shipper: {destination: 's3://usages', retry_max: 2s, s3: {endpoint: 'http://127.0.0.1:9000', region: us-east-1}}")
	m.shell("sed -i '2,$ s/^shipper:/#&/; 2,$ s/^  s3:/#&/' /etc/collectord/collectord.yaml")
	// The key is a credential, as the unit's comment describes.
	m.write("/etc/collectord/s3-credentials", "[default]\naws_access_key_id = operator\naws_secret_access_key = not-a-secret\n")
	m.shell("chmod 0600 /etc/collectord/s3-credentials")
	m.write("/etc/systemd/system/collectord.service.d/secret.conf", "[Service]\n"+
		"LoadCredential=s3-credentials:/etc/collectord/s3-credentials\n")
	m.do("systemctl", "daemon-reload")

	bucket := t.TempDir()
	if err := os.Mkdir(filepath.Join(bucket, "usages"), 0o755); err != nil {
		t.Fatal(err)
	}
	storage := func() (stop func()) {
		c := exec.Command(minio, "server", "--quiet", "--address", "127.0.0.1:9000", bucket)
		c.Env = append(os.Environ(), "MINIO_ROOT_USER=operator", "MINIO_ROOT_PASSWORD=not-a-secret", "MINIO_BROWSER=off", "MINIO_UPDATE=off")
		if err := m.inside(c.Start); err != nil {
			t.Fatal(err)
		}
		stop = sync.OnceFunc(func() { _ = c.Process.Kill(); _ = c.Wait() })
		t.Cleanup(stop)
		waitUntil(t, "the storage is ready", func() bool {
			answer, err := m.Get("http://127.0.0.1:9000/minio/health/ready")
			if err != nil {
				return false
			}
			answer.Body.Close()
			return answer.StatusCode == http.StatusOK
		})
		return stop
	}
	stop := storage()
	m.do("systemctl", "restart", "collectord")
	m.watchdog()
	send := func() {
		m.store(`{"patientId":"100"}`)
		m.do("systemctl", "kill", "--signal=USR1", "collectord.service")
	}
	send()
	waitUntil(t, "the usage is shipped", func() bool { return m.metric("collectord_usages_shipped_total") == 1 })

	running := m.pid()
	stop()
	began := time.Now()
	failures := func() int { return m.metric("collectord_shipper_failures_total") }
	for range 3 {
		send()
		before := failures()
		waitUntil(t, "uploads fail", func() bool { return failures() > before+1 })
	}
	t.Logf("the bucket was unavailable for %v, %d uploads failed", time.Since(began).Round(time.Millisecond), failures())
	storage()
	waitUntil(t, "the waiting usages are shipped", func() bool { return m.metric("collectord_usages_shipped_total") == 4 })
	if m.pid() != running || m.unitProperty("NRestarts") != "0" {
		t.Errorf("the daemon was restarted %s times", m.unitProperty("NRestarts"))
	}
}
