//go:build torture

package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startNginxWithLocation runs nginx with one location, whose directives are given. It
// returns the URL and the path of the log.
func startNginxWithLocation(t *testing.T, location string) (endpoint, log string) {
	t.Helper()
	dir := t.TempDir()
	address := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log %[1]s/error.log warn;
events {}
http {
    access_log off;
    client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
    server {
        listen %[2]s;
        location / { %[3]s }
    }
}
`, dir, address, location)
	for _, d := range []string{dir, filepath.Dir(dir)} { // nginx workers run as another user
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := exec.Command("nginx", "-c", config)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = proxy.Process.Signal(os.Interrupt)
		_ = proxy.Wait()
	})
	until(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "http://" + address, filepath.Join(dir, "error.log")
}

// postLarge posts usages of 32 KiB that can't be compressed, and has the segment shipped.
func (d *daemon) postLarge(requests, each int) {
	d.t.Helper()
	random := rand.NewChaCha8([32]byte{})
	for range requests {
		var usages []string
		for range each {
			x := make([]byte, 24<<10)
			_, _ = random.Read(x)
			usages = append(usages, fmt.Sprintf(`{"x":%q}`, base64.StdEncoding.EncodeToString(x)))
		}
		d.postAll(usages)
	}
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		d.t.Fatal(err)
	}
}

// postAll posts usages in one request. All of them must be stored.
func (d *daemon) postAll(usages []string) {
	d.t.Helper()
	resp, err := http.Post(d.url(), "application/json", strings.NewReader("["+strings.Join(usages, ",")+"]"))
	if err != nil {
		d.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		d.t.Fatal(resp.Status)
	}
}

// TestNginxThatRefusesLargeObjectsGetsThemInPieces ships through nginx with its default
// settings. nginx accepts bodies of at most 1 MiB. It closes the connection after its error
// page.
func TestNginxThatRefusesLargeObjectsGetsThemInPieces(t *testing.T) {
	skipMissing(t, notInstalled("nginx"))
	dir := t.TempDir()
	f, settings := fakeS3(t, dir)
	through, _ := startNginxWithLocation(t, "proxy_pass "+f.URL+"; proxy_set_header Host $http_host;")
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshipper:\n  "+strings.Replace(settings, f.URL, through, 1)+"\n")
	d := start(t, config, port, admin)
	const requests, each = 20, 10
	d.postLarge(requests, each)
	until(t, "all is shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] == requests*each })
	m := d.metrics()
	d.checkLedger(m)
	if n := m[`collectord_shipper_failures_total{kind="too_large"}`]; n < 3 || n > 16 {
		t.Errorf("refused %v times; %s", n, d.log())
	}
	d.untilLogged("client_max_body_size")
	d.stop()
	if out, err := command(t, "audit", "--deep", "--from-start", "--config", config).CombinedOutput(); err != nil {
		t.Errorf("audit: %v: %s", err, out)
	}
	for key, o := range f.Objects() {
		if len(o.Body) > 1<<20 {
			t.Errorf("%s has %d bytes", key, len(o.Body))
		}
	}
}
