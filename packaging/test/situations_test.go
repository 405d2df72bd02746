//go:build packages

package test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var situations = flag.String("situations", "", "run the situations of an operator whose names match this pattern (takes minutes)")

// host is a machine with a daemon that ships to a MinIO, monitored by a Prometheus.
type host struct {
	*machine
	disk       string // the mount point of data_dir on this host
	bucket     string // MinIO's directory of the bucket
	minio      *exec.Cmd
	user       string
	port       int // of MinIO
	prometheus string
	silent     atomic.Bool // the second device sends nothing
	began      time.Time   // start of the current situation
	fleetArgs  []string
}

const (
	shippingTo = "s3://usages"
)

// situation is an incident of a host, with the expected output of each view.
type situation struct {
	name     string
	begin    func()
	end      func()
	fleet    []string // arguments
	wantExit map[string]int
	wantText map[string][]string
}

// views are the commands and pages that operators use.
func views() []string { return []string{"doctor", "status", "page", "alert", "journal", "fleet"} }

// TestSituationsAreSeenInEachView runs a host through its incidents, on a real systemd with
// the package, a MinIO, and a Prometheus in which a minute takes a second.
func TestSituationsAreSeenInEachView(t *testing.T) {
	if *situations == "" {
		t.Skip("without -situations: make situations")
	}
	requirePrograms(t, "mkfs.ext4", "mount")
	h := newHost(t)
	started := &situation{name: "all is fine", wantExit: map[string]int{}, wantText: map[string][]string{
		"doctor": {"RIGHT: 0 errors"}, "status": {"FINE: "}, "page": {"Fine"}, "alert": {"none"}, "journal": {"nothing"}, "fleet": {"RIGHT: "},
	}}
	h.play(t, started)
	for _, s := range h.situations() {
		if !regexp.MustCompile(*situations).MatchString(s.name) {
			continue
		}
		h.play(t, s)
		if s.end != nil { // the last situation has none
			s.end()
			h.waitCalm(s.name)
		}
	}
}

func (h *host) situations() []*situation {
	var proxy *http.Server
	failing := map[string]int{"doctor": 2, "status": 2, "fleet": 2}
	return []*situation{
		{
			name: "an outage", begin: h.stopStorage, end: h.startStorage, wantExit: map[string]int{"doctor": 2, "status": 1, "fleet": 1},
			wantText: map[string][]string{
				"doctor":  {"NOT RIGHT: 1 error", "connection", "connection refused", "-> start the storage"},
				"status":  {"WARNING: can't ship to " + shippingTo, "connection refused", "next attempt"},
				"page":    {"Warning", "can't ship to " + shippingTo, "connection refused"},
				"alert":   {"NotShipping"},
				"journal": {"connection refused"},
				"fleet":   {"connection refused"},
			},
		},
		{
			name: "a wrong bucket", begin: func() { h.shipTo("s3://usage") }, end: func() { h.shipTo(shippingTo) }, wantExit: failing,
			wantText: map[string][]string{
				"doctor":  {"NOT RIGHT: 1 error", "bucket", "-> create the bucket"},
				"status":  {"FAILING: can't ship to s3://usage/ ", "bucket", "what to do"},
				"page":    {"Failing", "can't ship to s3://usage/ ", "bucket"},
				"alert":   {"NotShipping"},
				"journal": {"the storage does not pass its check", "step=bucket"},
				"fleet":   {"NOT RIGHT: 1 silent host"},
			},
		},
		{
			name: "an expired key", begin: func() { h.stopStorage(); h.user = "another"; h.startStorage() },
			end: func() { h.stopStorage(); h.user = "operator"; h.startStorage() }, wantExit: failing,
			wantText: map[string][]string{
				"doctor":  {"NOT RIGHT: 1 error", "credentials", "-> "},
				"status":  {"FAILING: can't ship to " + shippingTo, "key", "what to do"},
				"page":    {"Failing", "can't ship to " + shippingTo, "key"},
				"alert":   {"NotShipping"},
				"journal": {"key"},
				"fleet":   {"NOT RIGHT: 1 silent host"},
			},
		},
		{
			name: "a silent device", begin: func() { h.silent.Store(true) }, end: func() { h.silent.Store(false) },
			fleet: []string{"--device-silent-for", "10s"}, wantExit: map[string]int{"fleet": 2},
			wantText: map[string][]string{
				"doctor":  {"RIGHT: 0 errors"},
				"status":  {"FINE: ", "inhaler-2"},
				"page":    {"Fine", "inhaler-2"},
				"alert":   {"ClientSilent inhaler-2"},
				"journal": {"nothing"},
				"fleet":   {"NOT RIGHT: 1 host with silent devices", "silent devices: inhaler-2 (for"},
			},
		},
		{
			name: "a silent host", begin: h.crash, end: h.restart, wantExit: failing,
			wantText: map[string][]string{
				"doctor":  {"NOT RIGHT: 1 error", "the service has failed", "no daemon is running"},
				"status":  {"no daemon"},
				"page":    {"connection refused"},
				"alert":   {"Down"},
				"journal": {"status=9/KILL"},
				"fleet":   {"NOT RIGHT: 1 silent host"},
			},
		},
		{
			name: "a clock that is an hour ahead",
			begin: func() {
				h.stopStorage()
				h.port = 9001
				h.startStorage()
				proxy = h.shiftClock(time.Hour)
			},
			end: func() {
				_ = proxy.Close()
				h.stopStorage()
				h.port = 9000
				h.startStorage()
			},
			wantExit: failing,
			wantText: map[string][]string{
				"doctor":  {"NOT RIGHT: ", "clock", "ahead of the storage's", "-> "},
				"status":  {"FAILING: ", "clock"},
				"page":    {"Failing", "clock"},
				"alert":   {"ClockOff", "NotShipping"},
				"journal": {"the clock is wrong: ", "trouble=clock"},
				"fleet":   {"NOT RIGHT: 1 silent host"},
			},
		},
		{
			name: "a full disk", begin: h.fillDisk, end: h.freeDisk, wantExit: failing,
			wantText: map[string][]string{
				"doctor":  {"NOT RIGHT: ", "free; the log may grow", "-> make room on this disk", "no space left on device"},
				"status":  {"FAILING: ", "no space left", "wal.min_free is", "make room on the disk", "log_full"},
				"page":    {"Failing", "no space left"},
				"alert":   {"LogFull"},
				"journal": {"no space left"},
				"fleet":   {"NOT RIGHT: 1 host in trouble"},
			},
		},
		{
			name: "a damaged segment", begin: h.damageSegment, wantExit: map[string]int{"status": 1, "fleet": 2},
			wantText: map[string][]string{
				"doctor":  {"put_aside"},
				"status":  {"WARNING: ", "put aside", "wal/quarantine/", "what to do"},
				"page":    {"Warning", "put aside", "wal/quarantine/"},
				"alert":   {"PutAside", "UsagesQuarantined"},
				"journal": {"damaged"},
				"fleet":   {"NOT RIGHT: 1 host in trouble", "put_aside: 1"},
			},
		},
	}
}

// play starts a situation, waits until each view has the expected output, and prints all
// six views.
func (h *host) play(t *testing.T, s *situation) {
	t.Helper()
	h.began, h.fleetArgs = time.Now(), s.fleet
	h.waitReceiving()
	if s.begin != nil {
		s.begin()
	}
	documented := map[string]string{}
	var missing []string
	for deadline := time.Now().Add(90 * time.Second); ; <-time.After(time.Second) {
		missing = nil
		for _, view := range views() {
			text, exit := h.readView(view)
			documented[view] = fmt.Sprintf("exit status %d\n%s", exit, text)
			for _, words := range s.wantText[view] {
				if !strings.Contains(text, words) {
					missing = append(missing, fmt.Sprintf("%s lacks %q", view, words))
				}
			}
			if want := s.wantExit[view]; exit != want {
				missing = append(missing, fmt.Sprintf("%s exits with %d, not %d", view, exit, s.wantExit[view]))
			}
		}
		if len(missing) == 0 || time.Now().After(deadline) {
			break
		}
	}
	transcript := fmt.Sprintf("==== %s (after %v)\n", s.name, time.Since(h.began).Round(time.Second))
	for _, view := range views() {
		lines := strings.Split(documented[view], "\n")
		transcript += "-- " + view + ": " + strings.Join(lines[:min(len(lines), 14)], "\n     ") + "\n"
	}
	t.Logf("\n%s-- systemd: %s", transcript, h.unitProperty("StatusText"))
	if len(missing) > 0 {
		t.Errorf("%s: %s", s.name, strings.Join(missing, "; "))
	}
}

// waitReceiving waits until another usage is appended and heartbeats are written.
func (h *host) waitReceiving() {
	h.t.Helper()
	was := h.metric("collectord_usages_appended_total")
	waitUntil(h.t, "usages come in", func() bool { return h.metric("collectord_usages_appended_total") > was })
	waitUntil(h.t, "heartbeats are written", func() bool { return h.metric("collectord_shipper_heartbeats_total") > 3 })
}

// waitCalm waits until status, fleet and alerts are fine again.
func (h *host) waitCalm(after string) {
	h.t.Helper()
	h.fleetArgs = nil
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(time.Second) {
		status, failed := h.readView("status")
		fleet, wrong := h.readView("fleet")
		alerts, _ := h.readView("alert")
		switch {
		case failed == 0 && wrong == 0 && alerts == "none":
			return
		case time.Now().After(deadline):
			h.t.Fatalf("after %s the host is not fine again:\n%s\n%s\n%s", after, status, fleet, alerts)
		}
	}
}

// readView returns the current output of a view and its exit status.
func (h *host) readView(view string) (text string, exit int) {
	h.t.Helper()
	switch view {
	case "doctor":
		text, exit = withStatus(h.try("collectord", "doctor"))
		return linesOf(text, `RIGHT: |^  (error|warning) |^ +-> |no daemon|service is not running`), exit
	case "status":
		_, exit = withStatus(h.try("collectord", "status", "--check"))
		text, _ := h.try("collectord", "status")
		return linesOf(text, `^[A-Z]+: |what to do|^error|^clients|inhaler|^trouble|^put aside|^in by HTTP|no daemon`), exit
	case "page":
		return h.page(), 0
	case "alert":
		return h.firing(), 0
	case "journal":
		return h.journal(), 0
	}
	text, exit = h.runElsewhere(append([]string{"fleet", "--silent-for", "5s"}, h.fleetArgs...)...)
	return linesOf(text, `\S`), exit
}

func withStatus(text string, err error) (string, int) {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return text, exit.ExitCode()
	}
	return text, 0
}

func linesOf(text, pattern string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); regexp.MustCompile(pattern).MatchString(line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// page returns the text of the status page up to the plots, and the clients.
func (h *host) page() string {
	answer, err := h.Get("http://127.0.0.1:3001/")
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	verdict, rest, _ := strings.Cut(string(body), `<h2 id="hour">`)
	_, verdict, _ = strings.Cut(verdict, `<h1 id="verdict">`)
	text := plain(verdict)
	if _, clients, found := strings.Cut(rest, "<h2>Clients"); found {
		text += "\nClients" + plain(strings.SplitN(clients, "</table>", 2)[0])
	} else if i := strings.Index(rest, "inhaler-"); i >= 0 {
		text += "\nclients: " + plain(rest[i:min(i+600, len(rest))])
	}
	return text
}

func plain(html string) string {
	html = regexp.MustCompile(`</(li|p|h1|tr)>`).ReplaceAllString(html, "\x00")
	html = strings.Join(strings.Fields(regexp.MustCompile(`(?s)<[^>]*>?`).ReplaceAllString(html, " ")), " ")
	html = strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&gt;", ">", "&lt;", "<").Replace(html)
	return strings.TrimSpace(regexp.MustCompile(` *(\x00 *)+`).ReplaceAllString(html, "\n"))
}

// journal returns the warnings and errors logged since the situation began.
func (h *host) journal() string {
	text := h.do("journalctl", "--no-pager", "--output=cat", "--unit=collectord", fmt.Sprintf("--since=@%.6f", float64(h.began.UnixMicro())/1e6))
	var kept []string
	for line := range strings.Lines(text) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) != nil {
			kept = append(kept, strings.TrimSpace(line))
			continue
		}
		if entry["level"] == "INFO" {
			continue
		}
		line = fmt.Sprintf("%v %v", entry["level"], entry["msg"])
		for _, key := range []string{"trouble", "step", "error", "advice"} {
			if value, ok := entry[key]; ok {
				line += fmt.Sprintf(" %s=%v", key, value)
			}
		}
		kept = append(kept, line)
	}
	if len(kept) == 0 {
		return "nothing"
	}
	return strings.Join(kept, "\n")
}

// firing returns the firing alerts.
func (h *host) firing() string {
	h.t.Helper()
	answer, err := h.Get(h.prometheus + "/api/v1/alerts")
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	var got struct {
		Data struct {
			Alerts []struct {
				State               string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		h.t.Fatal(err)
	}
	var lines []string
	for _, a := range got.Data.Alerts {
		if a.State == "firing" {
			name := strings.TrimPrefix(a.Labels["alertname"], "Collectord")
			for _, label := range []string{"client", "name"} {
				name = strings.TrimRight(name+" "+a.Labels[label], " ")
			}
			lines = append(lines, name+" ("+a.Labels["severity"]+"): "+a.Annotations["summary"])
		}
	}
	if len(lines) == 0 {
		return "none"
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// runElsewhere runs the program as on another host, which shares only the network with the
// machine.
func (h *host) runElsewhere(args ...string) (text string, exit int) {
	h.t.Helper()
	c := exec.Command(filepath.Join(h.root, "usr/bin/collectord"), args...)
	c.Dir = h.t.TempDir()
	c.Env = []string{
		"COLLECTORD_SHIPPER_DESTINATION=" + shippingTo, fmt.Sprintf("COLLECTORD_SHIPPER_S3_ENDPOINT=http://127.0.0.1:%d", h.port),
		"COLLECTORD_SHIPPER_S3_REGION=us-east-1", "AWS_ACCESS_KEY_ID=" + h.user, "AWS_SECRET_ACCESS_KEY=not-a-secret", "HOME=" + c.Dir,
	}
	var out []byte
	err := h.inside(func() (err error) { out, err = c.CombinedOutput(); return err })
	return withStatus(string(out), err)
}
