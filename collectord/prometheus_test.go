//go:build torture

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/shipper/bucket/storages"
)

// prometheus is a real Prometheus in which a minute of the alert rules takes a second.
type prometheus struct {
	t   *testing.T
	url string
}

// scaleMinutes turns all minutes in a rule into seconds: for:, [15m], offset 1h, 4 * 3600.
func scaleMinutes(rules string) string {
	rules = regexp.MustCompile(`(for: |\[|offset )(\d+)m\b`).ReplaceAllString(rules, "${1}${2}s")
	rules = regexp.MustCompile(`(for: |\[|offset )(\d+)h\b`).ReplaceAllString(rules, "${1}${2}m")
	return strings.NewReplacer(" * 3600", " * 60", " * 60", " * 1").Replace(rules)
}

// startPrometheus starts a Prometheus that scrapes a daemon.
func startPrometheus(t *testing.T, admin int) *prometheus {
	t.Helper()
	program := filepath.Join(storages.Tools(), "prometheus")
	skipMissing(t, notInstalled(program))
	dir, addr := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	config := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [rules.yml]\n"+
		"scrape_configs: [{job_name: collectord, static_configs: [{targets: ['127.0.0.1:%d']}]}]\n", admin)
	for name, text := range map[string]string{"prometheus.yml": config, "rules.yml": scaleMinutes(readFile(t, alertRulesFile))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--query.lookback-delta=5s", "--log.level=warn")
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("Prometheus: %s", readFile(t, log.Name()))
		}
	})
	p := &prometheus{t, "http://" + addr}
	until(t, "Prometheus is ready", func() bool {
		resp, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// get requests the API.
func (p *prometheus) get(path string, q url.Values, data any) error {
	resp, err := http.Get(p.url + "/api/v1/" + path + "?" + q.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return json.Unmarshal(body, &struct{ Data any }{data})
}

// firing returns the names of the alerts that fire now.
func (p *prometheus) firing() (names []string) {
	p.t.Helper()
	var got struct {
		Alerts []struct {
			State               string
			Labels, Annotations map[string]string
		}
	}
	if err := p.get("alerts", nil, &got); err != nil {
		p.t.Fatal(err)
	}
	for _, a := range got.Alerts {
		if a.State != "firing" {
			continue
		}
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(a.Labels["alertname"], "Collectord")+" "+a.Labels["name"], " "))
		for key, text := range a.Annotations {
			if strings.Contains(text, "<no value>") || strings.Contains(text, "error expanding") {
				p.t.Errorf("%s of %s is %q", key, a.Labels["alertname"], text)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// waitAlerts waits until exactly the wanted alerts fire. Names with a question mark are
// optional.
func (p *prometheus) waitAlerts(when string, names ...string) {
	p.t.Helper()
	began, seen := time.Now(), map[string]time.Duration{}
	may := func(name string) bool { return slices.Contains(names, name+"?") }
	want := slices.DeleteFunc(slices.Sorted(slices.Values(names)), func(name string) bool { return strings.HasSuffix(name, "?") })
	for deadline := began.Add(testTimeout); ; <-time.After(200 * time.Millisecond) {
		got := p.firing()
		for _, name := range got {
			if _, ok := seen[name]; !ok {
				seen[name] = time.Since(began).Round(time.Second)
			}
		}
		if slices.Equal(slices.DeleteFunc(got, may), want) {
			break
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: %v fire after %v, not %v; seen %v", when, got, testTimeout, want, seen)
		}
	}
	p.t.Logf("%s: %v fire; alerts seen meanwhile, and their delays (a second stands for a minute of the rules): %v", when, want, seen)
}

// checkRules asserts that Prometheus can evaluate all rules.
func (p *prometheus) checkRules() {
	p.t.Helper()
	var got struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := p.get("rules", nil, &got); err != nil {
		p.t.Fatal(err)
	}
	n := 0
	for _, g := range got.Groups {
		for _, r := range g.Rules {
			if n++; r.Health != "ok" {
				p.t.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if want := len(alertRules(p.t)); n != want {
		p.t.Errorf("%d rules are evaluated, not %d", n, want)
	}
}

// checkDashboard asserts that every query of the dashboard is valid and has results for the
// time since began.
func (p *prometheus) checkDashboard(began time.Time) {
	p.t.Helper()
	span := time.Since(began).Round(time.Second)
	variables := strings.NewReplacer("$job", ".*", "$instance", ".*", "$top", "10", "$__rate_interval", "5s", "$__range", span.String())
	variable := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	queries := dashboardQueries(p.t)
	for _, q := range queries {
		expr := variables.Replace(q.expr)
		if m := variable.FindStringSubmatch(expr); m != nil {
			var values []string
			if err := p.get("label/"+m[2]+"/values", url.Values{"match[]": {m[1]}}, &values); err != nil || len(values) != 1 {
				p.t.Errorf("variable %s: %v, %v", q.panel, values, err)
			}
			continue
		}
		var got struct{ Result []json.RawMessage }
		at := url.Values{"query": {expr}, "start": {unixTime(began)}, "end": {unixTime(time.Now())}, "step": {"1"}}
		if err := p.get("query_range", at, &got); err != nil {
			p.t.Errorf("panel %q: %s: %v", q.panel, expr, err)
		} else if len(got.Result) == 0 {
			p.t.Errorf("panel %q shows nothing: %s", q.panel, expr)
		}
	}
	p.t.Logf("%d queries of the dashboard return something for %v", len(queries), span)
}

func unixTime(at time.Time) string {
	return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)
}

// clockProxy is a proxy before a storage that can change the date of answers.
type clockProxy struct {
	url   string
	ahead atomic.Int64 // seconds by which the date of answers is wrong
}

func newClockProxy(t *testing.T, to string) *clockProxy {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &clockProxy{url: "http://" + ln.Addr().String()}
	server := http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature covers the host
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Date", time.Now().Add(time.Duration(u.ahead.Load())*time.Second).UTC().Format(http.TimeFormat))
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return u
}

// TestPrometheusFiresTheAlertsOfWhatHappens runs a real daemon, storage and Prometheus
// through the incidents of a host. It compares the firing alerts with the expected ones,
// and runs every query of the rules and the dashboard.
func TestPrometheusFiresTheAlertsOfWhatHappens(t *testing.T) {
	requirePrograms(t, "mount", "umount")
	disk, dir := newDataDisk(t, "-t", "tmpfs", "-o", "size=64m", "none")
	storage := startStorage(t, storageNamed(t, "MinIO"), t.TempDir())
	way := newClockProxy(t, storage.Endpoint())
	settings := strings.Replace(shipperSettings(t, dir, storage), storage.Endpoint(), way.url, 1)
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, max_bytes: 16MiB, min_free: 0, seal_after: 1s, seal_small_after: 2s}\n"+
		"shutdown: {grace: 0s}\nshipper:\n"+settings+"  heartbeat: 1s\n  keep: 2s\n")
	ca := newAuthority(t, dir)
	ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(1000*time.Hour))
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {tls: {cert: %s/cert, key: %[1]s/key, client_ca: %s}, ", dir, ca.path))
	inhaler := ca.client("inhaler")
	d := start(t, config, port, admin)
	began := time.Now()
	stop, sent := make(chan struct{}), make(chan struct{})
	go func() { defer close(sent); sendSteadily(inhaler, port, stop) }()
	defer func() { close(stop); <-sent }()
	p := startPrometheus(t, admin)

	until(t, "Prometheus has seen a shipped usage", func() bool {
		var got struct{ Result []json.RawMessage }
		return p.get("query", url.Values{"query": {`increase(collectord_usages_shipped_total[5s]) > 0`}}, &got) == nil && len(got.Result) == 1
	})
	p.checkRules()
	p.waitAlerts("all is fine")

	storage.Kill()
	p.waitAlerts("the storage is killed, and the log fills", "BacklogOld", "LogFull", "NotShipping")
	if err := storage.Start(); err != nil {
		t.Fatal(err)
	}
	p.waitAlerts("the storage is back")

	room, filled := make(chan struct{}), make(chan struct{})
	go func() { // removed segments free space all the time
		defer close(filled)
		for {
			disk.fill()
			select {
			case <-room:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	p.waitAlerts("the disk is full", "DiskFailing", "LogFull", "UsagesDropped?")
	close(room)
	<-filled
	disk.free()
	p.waitAlerts("the disk has room again")

	way.ahead.Store(-3600)
	p.waitAlerts("the clock is an hour ahead of the storage's", "ClockOff")
	way.ahead.Store(0)
	p.waitAlerts("the clock is right again")

	d.kill()
	p.waitAlerts("the daemon is killed", "Down")
	for range 3 {
		d = start(t, config, port, admin)
		until(t, "the start is scraped", func() bool {
			var got struct{ Result []json.RawMessage }
			query := fmt.Sprintf(`process_start_time_seconds == %v`, d.metrics()["process_start_time_seconds"])
			return p.get("query", url.Values{"query": {query}}, &got) == nil && len(got.Result) == 1
		})
		d.kill()
	}
	d = start(t, config, port, admin)
	p.waitAlerts("the daemon was restarted again and again", "Restarting")

	p.checkRules()
	p.checkDashboard(began)
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// sendSteadily posts and sends usages, a few of them invalid, until stop is closed.
func sendSteadily(client *http.Client, port int, stop <-chan struct{}) {
	target := fmt.Sprintf("https://127.0.0.1:%d/api/usages", port)
	udp, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return
	}
	defer udp.Close()
	post := func(body string) {
		resp, err := client.Post(target, "application/json", strings.NewReader(body))
		if err != nil {
			return // the daemon was killed
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	body := `{"n":1,"x":"` + strings.Repeat("x", 30<<10) + `"}`
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
		post(body)
		_, _ = udp.Write([]byte(`{"n":2}`))
		if n%40 == 0 {
			post("[")
		}
	}
}
