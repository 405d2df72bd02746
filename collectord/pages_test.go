package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// postFrom posts a usage as a browser does for a page, and returns the status.
func postFrom(t *testing.T, d *daemon, host, origin string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, d.url(), strings.NewReader(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// By default only pages of this host can send. A reload adds or removes other origins. Each
// rejected usage is counted, and one line is logged.
func TestPagesThatMaySendAreConfiguredWhileItRuns(t *testing.T) {
	t.Parallel()
	config, port, admin := configure(t, t.TempDir(), "")
	d := start(t, config, port, admin)
	defer d.stop()
	asked := 0
	check := func(app, proxied, evil int) {
		t.Helper()
		for _, c := range []struct {
			host, origin string
			want         int
		}{
			{"localhost", "", http.StatusCreated},
			{"localhost", "http://localhost:8080", http.StatusCreated},
			{"localhost", "null", app},
			{"usages.test", "", proxied},
			{"usages.test", "http://usages.test", proxied},
			{"localhost", "http://evil.test", evil},
			{"evil.test:3000", "http://evil.test:3000", evil},
		} {
			if got := postFrom(t, d, c.host, c.origin); got != c.want {
				t.Errorf("Host %s, Origin %q: %d, want %d", c.host, c.origin, got, c.want)
			}
			if c.want == http.StatusForbidden {
				asked++
			}
		}
	}
	const no, yes = http.StatusForbidden, http.StatusCreated
	check(no, no, no)
	d.rewriteConfig(config, "http: {", "http: {origins: 'null', hosts: Usages.test, ")
	d.untilLogged("http.hosts: ")
	check(yes, yes, no)
	d.rewriteConfig(config, "http: {origins: 'null', hosts: Usages.test, ", "http: {")
	d.untilLogged("http.hosts: Usages.test -> ")
	check(no, no, no)
	if got := d.metrics()[`collectord_usages_rejected_total{reason="cross_site",source="http"}`]; got != float64(asked) {
		t.Errorf("%v are counted, want %d", got, asked)
	}
	if log := d.log(); strings.Count(log, "trouble=cross_site") != 1 || strings.Contains(log, "evil.test") || !strings.Contains(log, "http.origins contains null") {
		t.Errorf("logged: %s", log)
	}
	if _, err := loadConfig(t, fmt.Sprintf("http: {hosts: 'usages.test:%d'}", port)); err == nil || !strings.Contains(err.Error(), "without scheme, port or path") {
		t.Errorf("a host with a port: %v", err)
	}
}
