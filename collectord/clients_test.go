//go:build torture

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Common HTTP clients post as their manuals say, and all usages are stored.
func TestStandardClientsAreServed(t *testing.T) {
	skipMissing(t, notInstalled("curl", "ab", "wrk", "python3"))
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
	large := `{"a":"` + strings.Repeat("x", 2000) + `"}` // so large that curl sends Expect: 100-continue
	for name, c := range map[string]struct {
		command   []string
		minStored float64 // usages stored
		want      string  // in the output
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
		before := d.metrics()[acceptedHTTP]
		out, err := exec.Command(c.command[0], c.command[1:]...).CombinedOutput()
		stored := d.metrics()[acceptedHTTP] - before
		if err != nil || stored < c.minStored || !regexp.MustCompile(c.want).Match(out) || strings.Contains(string(out), "Non-2xx") {
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

// Common HTTP clients post over TLS, with a token and a client certificate.
func TestStandardClientsAreServedOverTLS(t *testing.T) {
	skipMissing(t, notInstalled("curl", "python3", "openssl"))
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	later := time.Now().Add(1000 * time.Hour)
	ca.issue("collector", dir+"/cert", dir+"/key", later)
	ca.issue("edge-7", dir+"/client.cert", dir+"/client.key", later)
	token, line := newToken(t, "ward-3")
	write(t, dir+"/tokens", line+"\n")
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {tokens_file: %s/tokens, tls: {cert: %[1]s/cert, key: %[1]s/key, client_ca: %s}, ", dir, ca.path))
	d := start(t, config, port, admin)
	url := fmt.Sprintf("https://127.0.0.1:%d/api/usages", port)
	const python = `
import http.client, ssl, sys
port, dir, token = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=dir + "/ca.pem")
context.load_cert_chain(dir + "/client.cert", dir + "/client.key")
c = http.client.HTTPSConnection("127.0.0.1", port, context=context)
head = {"Content-Type": "application/json", "Authorization": "Bearer " + token}
for i in range(100):
    c.request("POST", "/api/usages", b'{"a":1}', head)
    r = c.getresponse()
    assert r.status == 201 and r.read()
c.request("POST", "/api/usages", iter([b'{"a"', b':1}']), head, encode_chunked=True)
r = c.getresponse()
assert r.status == 201 and r.read()
head["Authorization"] = "Bearer wrong"
c.request("POST", "/api/usages", b'[' + b' ' * (3 << 20) + b']', head)
r = c.getresponse()
assert r.status == 401 and b"unauthorized" in r.read(), r.status
`
	curl := func(more ...string) []string {
		return append([]string{"curl", "-s", "-w", "%{http_code}", "--cacert", ca.path, "-H", "Content-Type: application/json", url}, more...)
	}
	bearer := []string{"-H", "Authorization: Bearer " + token}
	certified := []string{"--cert", dir + "/client.cert", "--key", dir + "/client.key"}
	large := filepath.Join(dir, "large")
	write(t, large, `{"a":"`+strings.Repeat("x", 1000<<10)+`"}`)
	for name, c := range map[string]struct {
		command []string
		stored  float64
		fails   bool
		want    string // in the output
	}{
		"curl":                    {curl(slices.Concat(bearer, certified, []string{"-d", `{"a":1}`})...), 1, false, `^\{"id":".*201$`},
		"curl, TLS 1.2":           {curl(slices.Concat(bearer, certified, []string{"--tls-max", "1.2", "-d", `{"a":1}`})...), 1, false, `201$`},
		"curl, TLS 1.1":           {curl(slices.Concat(bearer, certified, []string{"--tls-max", "1.1", "-d", `{"a":1}`})...), 0, true, `000$`},
		"curl, HTTP/2":            {curl(slices.Concat(bearer, certified, []string{"--http2", "-d", `{"a":1}`})...), 1, false, `201$`},
		"curl, large":             {curl(slices.Concat(bearer, certified, []string{"-d", "@" + large})...), 1, false, `201$`},
		"curl, no token":          {curl(slices.Concat(certified, []string{"-d", "@" + large})...), 0, false, `"code":"unauthorized"(.|\n)*401$`},
		"curl, expects, no token": {curl(slices.Concat(certified, []string{"-H", "Expect: 100-continue", "-d", "@" + large})...), 0, false, `401$`},
		"curl, no certificate":    {curl(slices.Concat(bearer, []string{"-d", `{"a":1}`})...), 0, true, `000$`},
		"curl, in plaintext":      {[]string{"curl", "-s", "-d", "{}", strings.Replace(url, "https", "http", 1)}, 0, false, `use https`},
		"python":                  {[]string{"python3", "-c", python, fmt.Sprint(port), dir, token}, 101, false, ``},
		"openssl":                 {[]string{"openssl", "s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", port), "-CAfile", ca.path, "-brief", "-ign_eof"}, 0, true, `Verification: OK(.|\n)*alert certificate required`},
	} {
		before := d.metrics()[acceptedHTTP]
		out, err := exec.Command(c.command[0], c.command[1:]...).CombinedOutput()
		if stored := d.metrics()[acceptedHTTP] - before; (err != nil) != c.fails || stored != c.stored || !regexp.MustCompile(c.want).Match(out) {
			t.Errorf("%s: %v, %v stored: %s", name, err, stored, out)
		}
	}
	d.stop()
}

// makeCheckout makes a directory with the files that the documents' commands need: the
// program and the configuration of make run.
func makeCheckout(t *testing.T, dir, config string) {
	t.Helper()
	built, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, made := range []error{
		os.Mkdir(dir+"/bin", 0o700), os.Mkdir(dir+"/packaging", 0o700),
		os.Symlink(built, dir+"/bin/collectord"), os.Rename(config, dir+"/packaging/run.yaml"),
	} {
		if made != nil {
			t.Fatal(made)
		}
	}
}

// shellBlocks returns the blocks of commands in a document, with the port of a test.
func shellBlocks(text []byte, port int) (blocks []string) {
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(text, -1) {
		blocks = append(blocks, strings.NewReplacer("localhost:3000", fmt.Sprintf("localhost:%d", port), "127.0.0.1/3000", fmt.Sprintf("127.0.0.1/%d", port)).Replace(string(m[1])))
	}
	return blocks
}

// TestDocumentedRequestsAreStored runs the commands of the README, and those of
// docs/http-api.md that need no token.
func TestDocumentedRequestsAreStored(t *testing.T) {
	skipMissing(t, notInstalled("bash", "curl", "gzip"))
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	makeCheckout(t, dir, config)
	config = dir + "/packaging/run.yaml"
	d := start(t, config, port, admin)
	ran := 0
	for _, document := range []string{"../README.md", "../docs/http-api.md"} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range shellBlocks(text, port) {
			if strings.Contains(block, "openssl") || strings.Contains(block, "HTTP_TLS") || strings.Contains(block, "cacert") {
				continue
			}
			ran++
			c := exec.Command("bash", "-euo", "pipefail", "-c", block)
			c.Dir = dir
			out, err := c.CombinedOutput()
			posts := strings.Count(block, "curl ")
			if stored := strings.Count(string(out), `{"id":"`) + strings.Count(string(out), `{"accepted":2,"rejected":0}`); err != nil || stored < posts {
				t.Errorf("%v: %s: %s", err, block, out)
			}
		}
	}
	d.stop()
	if records, _ := download(t, config); len(records) != 7 || ran != 4 {
		t.Errorf("%d usages of %d blocks are stored, want 7 of 4", len(records), ran)
	}
}

// TestAuthenticationIsSetUpAsDocumented runs the commands of docs/http-api.md,
// Authentication, as they are except for the port.
func TestAuthenticationIsSetUpAsDocumented(t *testing.T) {
	skipMissing(t, notInstalled("bash", "openssl", "curl"))
	page, err := os.ReadFile("../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Authentication\n")
	section, _, _ = strings.Cut(section, "\n## ")
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	blocks := shellBlocks([]byte(section), port)
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	makeCheckout(t, dir, config)
	commands := func(i int) *exec.Cmd {
		c := exec.Command("bash", "-e", "-c", blocks[i])
		c.Dir = dir
		return c
	}
	if out, err := commands(0).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := startCommand(t, commands(1), port, admin)
	out, err := commands(2).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `{"id":"`) || d.metrics()[acceptedHTTP] != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if strings.Contains(d.log(), "level=WARN") {
		t.Errorf("the daemon logged a warning: %s", d.log())
	}
	d.stop()
}
