//go:build torture

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each client of the world posts as its manual says, and finds its usages stored.
func TestStandardClientsAreServed(t *testing.T) {
	goWithout(t, notInstalled("curl", "ab", "wrk", "python3"))
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	body, script := filepath.Join(dir, "post.json"), filepath.Join(dir, "post.lua")
	for path, text := range map[string]string{
		body:   `{"patientId":"100"}`,
		script: "wrk.method = 'POST'\nwrk.body = '{\"patientId\":\"100\"}'\nwrk.headers['Content-Type'] = 'application/json'\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const python = `
import http.client, sys, urllib.request
port = int(sys.argv[1])
c = http.client.HTTPConnection("127.0.0.1", port)
for i in range(100):
    c.request("POST", "/api/usages", b'{"a":1}', {"Content-Type": "application/json"})
    r = c.getresponse()
    assert r.status == 201 and r.read()
def parts():
    yield b'{"a"'
    yield b':1}'
c.request("POST", "/api/usages", parts(), {"Content-Type": "application/json"}, encode_chunked=True)
assert c.getresponse().status == 201
r = urllib.request.urlopen(urllib.request.Request(sys.argv[2], b'{"a":1}', {"Content-Type": "application/json"}))
assert r.status == 201
`
	large := `{"a":"` + strings.Repeat("x", 2000) + `"}` // for which curl expects 100 Continue
	for name, c := range map[string]struct {
		command []string
		least   float64 // usages stored
		want    string  // in the output
	}{
		"curl":         {[]string{"curl", "-sf", "-H", "Content-Type: application/json", "-d", "@" + body, d.url()}, 1, `^\{"id":"`},
		"curl 1.0":     {[]string{"curl", "-sf", "-0", "-H", "Content-Type: application/json", "-d", "@" + body, d.url()}, 1, `^\{"id":"`},
		"curl expects": {[]string{"curl", "-sf", "-H", "Expect: 100-continue", "-H", "Content-Type: application/json", "-d", large, d.url()}, 1, `^\{"id":"`},
		"curl chunked": {[]string{"curl", "-sf", "-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/json", "-d", "@" + body, d.url()}, 1, `^\{"id":"`},
		"ab":           {[]string{"ab", "-q", "-p", body, "-T", "application/json", "-c", "20", "-n", "2000", d.url()}, 2000, `Complete requests: +2000\nFailed requests: +0\n`},
		"ab -k":        {[]string{"ab", "-q", "-k", "-p", body, "-T", "application/json", "-c", "20", "-n", "2000", d.url()}, 2000, `Failed requests: +0\nKeep-Alive requests: +2000\n`},
		"wrk":          {[]string{"wrk", "-t1", "-c20", "-d1s", "-s", script, d.url()}, 100, `requests in`},
		"python":       {[]string{"python3", "-c", python, fmt.Sprint(port), d.url()}, 102, ``},
	} {
		before := d.metrics()[accepted]
		out, err := exec.Command(c.command[0], c.command[1:]...).CombinedOutput()
		stored := d.metrics()[accepted] - before
		if err != nil || stored < c.least || !regexp.MustCompile(c.want).Match(out) || strings.Contains(string(out), "Non-2xx") {
			t.Errorf("%s: %v, %v stored: %s", name, err, stored, out)
		}
	}
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 500, 8, false) // net/http
	if acks.count() != 500 {
		t.Errorf("net/http: %d of 500", acks.count())
	}
	d.stop()
}
