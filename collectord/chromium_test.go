//go:build torture

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// attemptsPage is a page that posts to an address in every way that a page can. Each usage
// contains the name of the way in which it is posted. At the end the page posts a report.
const attemptsPage = `<!doctype html><meta charset="utf-8"><title>attempts</title><body><script>
const query = new URLSearchParams(location.search), to = query.get("to"), report = query.get("report")
const blob = how => new Blob([JSON.stringify({via: how})])
const post = (how, options) => fetch(to, {method: "POST", body: blob(how), ...options}).then(r => r.status || "unread", () => "blocked")
const form = (how, enctype) => new Promise(done => {
	const frame = document.createElement("iframe"), form = document.createElement("form"), field = document.createElement("input")
	frame.name = how
	Object.assign(form, {method: "POST", action: to, enctype, target: how})
	field.name = JSON.stringify({via: how})
	form.append(field)
	document.body.append(frame, form)
	frame.onload = () => { if (form.sent) done("loaded") }
	form.sent = true
	form.submit()
})
Promise.all([
	post("blob", {mode: "no-cors"}),
	post("blob with CORS", {}),
	post("JSON", {headers: {"Content-Type": "application/json"}}),
	post("keepalive", {mode: "no-cors", keepalive: true}),
	post("credentials", {mode: "no-cors", credentials: "include"}),
	post("no referrer", {mode: "no-cors", referrerPolicy: "no-referrer"}),
	post("text", {mode: "no-cors", headers: {"Content-Type": "text/plain"}}),
	form("text form", "text/plain"),
	form("multipart form", "multipart/form-data"),
	navigator.sendBeacon(to, blob("beacon")),
]).then(all => fetch(report + "/report", {method: "POST", mode: "no-cors", body: all.join(", ")}))
</script>`

// browse opens a page in Chromium until it has reported, and returns the report.
// rules map host names to addresses.
func browse(t *testing.T, site *attackSite, rules, page string) string {
	t.Helper()
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--host-resolver-rules="+rules, "--user-data-dir="+t.TempDir(), page)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the browser and its children
		_ = cmd.Wait()
	}()
	select {
	case report := <-site.reports:
		return report
	case <-time.After(testTimeout):
		t.Fatalf("no report of %s after %v", page, testTimeout)
		return ""
	}
}

// attackSite is a site that serves the page of attempts. It forwards all other requests
// unchanged to a collector, as after DNS rebinding.
type attackSite struct {
	port    int
	reports chan string
}

func serveAttackSite(t *testing.T, address string, collector int) *attackSite {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p := &attackSite{port: ln.Addr().(*net.TCPAddr).Port, reports: make(chan string, 1)}
	rebound := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", collector)})
		r.Out.Host = r.In.Host
	}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/", "/page":
			_, _ = io.WriteString(w, attemptsPage)
		case "/report":
			report, _ := io.ReadAll(r.Body)
			p.reports <- string(report)
		case "/api/usages":
			rebound.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		_ = server.Shutdown(context.Background())
		<-served
	})
	return p
}

// The requests that a real browser sends for a page of another site are not stored,
// wherever the page is and however it names the collector. Requests from the collector's
// own pages are stored.
func TestChromiumStoresNothingForOtherPages(t *testing.T) {
	skipMissing(t, notInstalled("chromium", "nginx"))
	const rules = "MAP evil.test 127.0.0.2, MAP usages.test 127.0.0.1"
	typeless := []string{"JSON", "beacon", "blob", "blob with CORS", "credentials", "keepalive", "no referrer"}
	for name, c := range map[string]struct {
		http   string // more keys of the section http
		page   string // SITE, COLLECTOR and NGINX stand for their ports
		to     string
		stored []string
	}{
		"a name in plain http":                 {"", "http://evil.test:SITE/", "http://usages.test:COLLECTOR", nil},
		"a name that is configured":            {"hosts: usages.test, ", "http://evil.test:SITE/", "http://usages.test:COLLECTOR", nil},
		"a loopback name":                      {"", "http://evil.test:SITE/", "http://localhost:COLLECTOR", nil},
		"from another loopback address":        {"", "http://127.0.0.2:SITE/", "http://localhost:COLLECTOR", nil},
		"DNS rebinding":                        {"", "http://evil.test:SITE/", "http://evil.test:SITE", nil},
		"a file":                               {"", "file://FILE", "http://localhost:COLLECTOR", nil},
		"a file that may send":                 {"origins: 'null', ", "file://FILE", "http://localhost:COLLECTOR", slices.DeleteFunc(slices.Clone(typeless), func(how string) bool { return how == "JSON" })},
		"its own page, by nginx":               {"hosts: usages.test, ", "http://usages.test:NGINX/page", "http://usages.test:NGINX", typeless},
		"its own page, by nginx on loopback":   {"", "http://localhost:NGINX/page", "http://localhost:NGINX", typeless},
		"its own page, by nginx, unconfigured": {"", "http://usages.test:NGINX/page", "http://usages.test:NGINX", nil},
		"another site's page, by nginx":        {"hosts: usages.test, ", "http://evil.test:SITE/", "http://usages.test:NGINX", nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			config, port, admin := configure(t, dir, "")
			replaceInFile(t, config, "http: {", "http: {"+c.http)
			d := start(t, config, port, admin)
			site := serveAttackSite(t, "127.0.0.2:0", port)
			ports := []string{"SITE", fmt.Sprint(site.port), "COLLECTOR", fmt.Sprint(port), "FILE", filepath.Join(dir, "page.html")}
			write(t, filepath.Join(dir, "page.html"), attemptsPage)
			if strings.Contains(c.to, "NGINX") {
				p := startNginxWith(t, "1s", map[string]string{"        return 404;\n": fmt.Sprintf("        proxy_pass http://127.0.0.2:%d/;\n", site.port)}, d)
				ports = append(ports, "NGINX", fmt.Sprint(p.port))
			}
			fill := strings.NewReplacer(ports...).Replace
			before := totalRequests(d.metrics())
			report := browse(t, site, rules, fill(c.page)+"?"+url.Values{
				"to": {fill(c.to) + "/api/usages"}, "report": {fmt.Sprintf("http://127.0.0.2:%d", site.port)},
			}.Encode())
			const each = 10 // the preflight for JSON is a request, too
			until(t, "all attempts are answered", func() bool { return totalRequests(d.metrics()) >= before+each })
			m := d.metrics()
			d.stop()
			var stored []string
			all, _ := download(t, config)
			for _, r := range all {
				stored = append(stored, r.Usage.Via)
			}
			slices.Sort(stored)
			if !slices.Equal(stored, c.stored) {
				t.Errorf("stored %q, want %q", stored, c.stored)
			}
			t.Logf("stored %q, rejected %v as cross_site; the page saw %s", stored, m[`collectord_usages_rejected_total{reason="cross_site",source="http"}`], report)
		})
	}
}
