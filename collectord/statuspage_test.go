//go:build torture

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var pagePictures = flag.String("page-pictures", "", "write what Chromium shows of the status page to this directory")

func statusPageURL(admin int) string { return fmt.Sprintf("http://127.0.0.1:%d/", admin) }

// scene is a state of the daemon with the expected page.
type scene struct {
	name      string
	verdict   string
	wantTexts []string                        // texts that the page contains
	start     func(t *testing.T) (url string) // returns when the daemon is in the state
}

// viewports are the window sizes and colour schemes in which the page is checked.
var viewports = []struct {
	name     string
	width    int
	features []string
}{
	{"light", 1200, []string{"prefers-color-scheme", "light"}},
	{"dark", 1200, []string{"prefers-color-scheme", "dark"}},
	{"phone", 360, []string{"prefers-color-scheme", "light"}},
	{"dark phone", 360, []string{"prefers-color-scheme", "dark"}},
	{"forced colors", 1200, []string{"forced-colors", "active", "prefers-color-scheme", "light"}},
}

// TestChromiumShowsTheStatusPage checks the page of real daemons in a real browser. The page
// shows what is wrong, fits a phone, is readable without colours and with a screen reader,
// loads nothing from elsewhere, and has no error.
func TestChromiumShowsTheStatusPage(t *testing.T) {
	skipMissing(t, notInstalled("chromium"))
	b := startBrowser(t)
	for _, s := range []scene{
		{"fine", "Fine", []string{"Last success", "Confirmed 1 object,", "shipped confirmed by the storage 300", "rejected: invalid_json 1 0"}, startFine},
		{"outage", "Warning|Failing", []string{"can't ship to s3://usages/prod", "Fails for", "connection refused", "Next attempt", "300 usages"}, startOutage},
		{"full", "Failing", []string{"Ready for traffic no", "rejected: log_full", "Forecast"}, startFull},
		{"starting", "Starting", []string{"the daemon is starting"}, startStarting},
	} {
		t.Run(s.name, func(t *testing.T) {
			if s.name == "starting" {
				requirePrograms(t, "strace")
			}
			b.t = t
			url := s.start(t)
			for _, a := range viewports {
				b.emulate(a.width, 1, a.features...)
				b.visit(url)
				b.checkVerdict(s.verdict, s.wantTexts)
				b.checkNoErrors(url)
				b.checkWidth(a.width)
				b.checkContrast()
				if *pagePictures != "" {
					b.screenshot(filepath.Join(*pagePictures, strings.ReplaceAll(s.name+" "+a.name, " ", "-")+".png"))
				}
			}
			b.checkAccessibility(s.name != "starting")
			b.t = t
		})
	}
}

// startFine starts a daemon and waits until its usages are stored and its plots have data.
func startFine(t *testing.T) (url string) {
	d, _ := startWithStorage(t)
	until(t, "the plots have data", func() bool { return !strings.Contains(d.getAdmin("/"), "Nothing is known yet") })
	return statusPageURL(d.admin)
}

func startWithStorage(t *testing.T) (d *daemon, storage *os.Process) {
	t.Helper()
	dir := t.TempDir()
	settings, storage := startMinIOToKill(t, dir)
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshipper:\n  retry_min: 100ms\n  "+settings)
	d = start(t, config, port, admin)
	d.post(&acknowledged{ids: map[int]string{}}, 0, 300, 10, false)
	d.postRejected("no JSON", http.StatusBadRequest)
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	until(t, "all is shipped", func() bool { return d.metrics()["collectord_usages_pending"] == 0 })
	return d, storage
}

// postRejected posts a body and expects the status of a rejection.
func (d *daemon) postRejected(body string, status int) {
	d.t.Helper()
	resp, err := http.Post(d.url(), "application/json", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != status {
		d.t.Fatalf("answered %s, want %d", resp.Status, status)
	}
}

// startOutage starts a daemon and kills its storage.
func startOutage(t *testing.T) (url string) {
	d, storage := startWithStorage(t)
	if err := storage.Kill(); err != nil {
		t.Fatal(err)
	}
	d.post(&acknowledged{ids: map[int]string{}}, 300, 600, 10, false)
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	until(t, "shipping fails", func() bool { return d.metrics()[`collectord_shipper_failures_total{kind="network"}`] >= 1 })
	return statusPageURL(d.admin)
}

// startFull starts a daemon without a storage and fills its log.
func startFull(t *testing.T) (url string) {
	dir := t.TempDir()
	nowhere := freePorts(t, 1)[0]
	credentials := filepath.Join(dir, "credentials")
	write(t, credentials, "[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, max_bytes: 4MiB, min_free: 0}\n"+
		fmt.Sprintf("shipper:\n  destination: s3://usages/prod\n  s3: {endpoint: 'http://127.0.0.1:%d', credentials_file: %s, region: us-east-1}\n", nowhere, credentials))
	d := start(t, config, port, admin)
	body := `{"x":"` + strings.Repeat("y", 200<<10) + `"}`
	until(t, "usages are rejected", func() bool {
		resp, err := http.Post(d.url(), "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	return statusPageURL(admin)
}

// startStarting starts a daemon whose disk hangs during the start.
func startStarting(t *testing.T) (url string) {
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {drain: 1ms, grace: 0s}\n")
	start(t, config, port, admin).stop()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, port: port, admin: admin, cmd: exec.Command("strace", "-f", "-qq", "-o", filepath.Join(dir, "trace"),
		"-P", filepath.Join(dir, "data", "wal"), "-e", "trace=openat", "-e", fmt.Sprintf("inject=openat:delay_enter=%d", testTimeout.Microseconds()),
		path, "run", "--config", config)}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.startProcess(func() {})
	t.Cleanup(func() { // the end of strace would not end the daemon
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		<-d.ended
		until(t, "the daemon has ended", func() bool { return errors.Is(syscall.Kill(-d.cmd.Process.Pid, 0), syscall.ESRCH) })
	})
	until(t, "the daemon serves its page", func() bool {
		resp, err := http.Get(statusPageURL(admin))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return true
	})
	return statusPageURL(admin)
}

// TestChromiumRefreshesTheStatusPage waits until the page reloads itself. A paused page must
// not do so.
func TestChromiumRefreshesTheStatusPage(t *testing.T) {
	skipMissing(t, notInstalled("chromium"))
	config, port, admin := configure(t, t.TempDir(), "")
	start(t, config, port, admin)
	b := startBrowser(t)
	b.visit(statusPageURL(admin))
	b.waitLoaded(3)
	b.checkNoErrors(statusPageURL(admin))
	resp, err := http.Get(statusPageURL(admin) + "?paused")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if refresh := resp.Header.Get("Refresh"); refresh != "" {
		t.Errorf("a paused page has Refresh: %s", refresh)
	}
}
