package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documentedMetrics reads packaging/metrics.md: type and labels by name.
func documentedMetrics(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../packaging/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\w+) \\| (.*?) ?\\| (.+) \\|$")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		labels := strings.Split(strings.ReplaceAll(m[3], "`", ""), ", ")
		slices.Sort(labels)
		documented[m[1]] = m[2] + " " + strings.Join(labels, ",")
	}
	return documented
}

// exportedMetrics scrapes a daemon: type and labels by name.
func exportedMetrics(t *testing.T, d *daemon) (exported map[string]string, text string) {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", d.admin))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	exported = map[string]string{}
	name, kind := "", ""
	label := regexp.MustCompile(`(\w+)="`)
	for line := range strings.Lines(string(body)) {
		if typed, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ = strings.Cut(strings.TrimSpace(typed), " ")
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		labels := []string{}
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			if m[1] != "le" || kind != "histogram" {
				labels = append(labels, m[1])
			}
		}
		slices.Sort(labels)
		exported[name] = kind + " " + strings.Join(labels, ",")
	}
	return exported, string(body)
}

// TestMetricsAreWhatIsDocumented compares the documented metrics with those of a daemon,
// before any event and after traffic through every stage. Both must have the same metrics,
// and every series must be there from the start.
func TestMetricsAreWhatIsDocumented(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {seal_after: 100ms}\n")
	_, line := newToken(t, "ward-3")
	write(t, dir+"/tokens", line+"\n")
	replaceInFile(t, config, "http: {", "http: {anonymous: true, tokens_file: "+dir+"/tokens, ")
	d := start(t, config, port, admin)
	until(t, "metrics are served", func() bool { return len(d.metrics()) > 100 })
	documented := documentedMetrics(t)
	compare := func(when string) string {
		t.Helper()
		exported, text := exportedMetrics(t, d)
		maps.DeleteFunc(exported, func(name, _ string) bool { return !strings.HasPrefix(name, "collectord_") })
		for name, is := range exported {
			if documented[name] != is {
				t.Errorf("%s: %s is exported as %q, documented as %q", when, name, is, documented[name])
			}
		}
		for name := range documented {
			if exported[name] == "" {
				t.Errorf("%s: %s is documented and not exported", when, name)
			}
		}
		return text
	}
	series := func(text string) map[string]bool {
		all := map[string]bool{}
		for line := range strings.Lines(text) {
			if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "collectord_") {
				all[name] = true
			}
		}
		return all
	}
	before := series(compare("at start"))
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 100, 4, false)
	d.send(100, 200)
	if resp, err := http.Post(d.url(), "application/json", bytes.NewReader([]byte("["))); err != nil {
		t.Fatal(err)
	} else {
		resp.Body.Close()
	}
	until(t, "all is shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] == 200 })
	text := compare("after traffic")
	for name := range series(text) {
		if !before[name] {
			t.Errorf("%s appears only after an event", name)
		}
	}
	// Every stage must have counted.
	m := d.metrics()
	for _, name := range []string{
		`http_requests_total{status="201"}`, `http_request_seconds_count{class="2xx"}`, `http_request_seconds_count{class="4xx"}`,
		"udp_batch_datagrams_count", "wal_commit_seconds_count", "wal_fsync_seconds_count", "wal_commit_records_sum", "wal_commit_bytes_sum",
		`wal_seals_total{reason="age"}`, "shipper_objects_total", "shipper_upload_seconds_count", "disk_free_bytes",
	} {
		if m["collectord_"+name] <= 0 {
			t.Errorf("%s is %v", name, m["collectord_"+name])
		}
	}
	until(t, "the spool's reserve is counted", func() bool { return d.metrics()["collectord_wal_spool_bytes"] > 0 })
	if n := m["collectord_wal_commit_records_sum"]; n != 200 {
		t.Errorf("%v records in frames, want 200", n)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if m[name] <= 0 {
			t.Errorf("%s is %v", name, m[name])
		}
	}
	d.stop()
}

func TestHealthChecksOfADaemonWhoseStorageIsAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, max_bytes: 4MiB, seal_after: 100ms, min_free: 0}\n"+
		"shutdown: {grace: 0s}\nshipper: {destination: 'file://"+dir+"/archive'}\n")
	d := start(t, config, port, admin)
	ask := func(port int, path string) string {
		t.Helper()
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body)))
	}
	expect := func(when, ready, health string) {
		t.Helper()
		if got := ask(d.admin, "/readyz"); !strings.HasPrefix(got, ready) {
			t.Errorf("%s: readyz %s", when, got)
		}
		if got := ask(d.port, "/healthz"); got != health {
			t.Errorf("%s: healthz %s", when, got)
		}
		if got := ask(d.admin, "/livez"); got != "200 ok" {
			t.Errorf("%s: livez %s", when, got)
		}
	}
	until(t, "the daemon is ready", func() bool { return ask(d.admin, "/readyz") == "200 ok" })
	expect("at start", "200 ok", "200 ok")
	storage := folderOutage{t, dir + "/archive"}
	storage.begin()
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 10, 2, false)
	until(t, "shipping has failed", func() bool {
		return d.metrics()[`collectord_shipper_failures_total{kind="ENOTDIR"}`] > 0
	})
	expect("the storage is away", "200 ok", "200 ok")
	big := strings.Repeat("x", 500<<10)
	until(t, "the log is full", func() bool {
		resp, err := http.Post(d.url(), "application/json", strings.NewReader(`{"a":"`+big+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	expect("the log is full", "503 log is full: ", "503 full")
	if got := d.metrics()["collectord_seconds_until_full"]; got != 0 {
		t.Errorf("seconds until full: %v", got)
	}
	if got := d.metrics()["collectord_oldest_unshipped_seconds"]; got <= 0 {
		t.Errorf("oldest unshipped: %v s", got)
	}
	storage.end()
	d.stop()
}
