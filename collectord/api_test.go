//go:build torture

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"collectord/shipper/bucket/storages"
)

// These tests check the promises of docs/openapi.yaml and docs/clients.md. Run them with
// make api-test.

var requestCount = flag.Int("requests", 300, "how many requests are generated for each operation of the API")

var apiSeed = flag.Int("api-seed", 1, "seed of the generated requests")

// TestTheAPIIsAsDocumented runs schemathesis. It generates valid and invalid requests from
// docs/openapi.yaml, and compares each answer with that file.
func TestTheAPIIsAsDocumented(t *testing.T) {
	schemathesis := filepath.Join(storages.Tools(), "api", "bin", "schemathesis")
	if _, err := os.Stat(schemathesis); err != nil {
		skipMissing(t, "schemathesis (make api-test installs it)")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"anyone", "with a token", "without a token"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := []string{
				"--config-file", filepath.Join(root, "packaging/api/schemathesis.toml"), "run", filepath.Join(root, "docs/openapi.yaml"), "--no-color", "--continue-on-failure",
				"--checks", "all", "--max-examples", fmt.Sprint(*requestCount), "--seed", fmt.Sprint(*apiSeed),
				"--suppress-health-check", "all", "--request-timeout", "60", // a busy machine is slow
			}
			settings := ""
			if name != "anyone" {
				token, tokens := writeTokenFile(t, dir, "tester")
				settings = "  tokens_file: " + tokens + "\n"
				if name == "with a token" {
					args = append(args, "-H", "Authorization: Bearer "+token)
				} else {
					args = append(args, "--exclude-checks", "positive_data_acceptance,unsupported_method") // every request is answered with 401
				}
			}
			configFile, port, admin := configureHTTP(t, dir, settings)
			start(t, configFile, port, admin)
			cmd := exec.CommandContext(t.Context(), schemathesis, append(args, "--url", fmt.Sprintf("http://127.0.0.1:%d", port))...)
			cmd.Dir = dir // schemathesis leaves files in this directory
			cmd.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS="+filepath.Join(root, "packaging/api/hooks.py"), "PYTHONDONTWRITEBYTECODE=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%s", regexp.MustCompile(`\d+ generated.*`).Find(out))
		})
	}
}

// configureHTTP does the same as configure, with more keys in the section http.
func configureHTTP(t *testing.T, dir, more string) (path string, port, admin int) {
	t.Helper()
	path, port, admin = configure(t, dir, "wal: {min_free: 0}\n")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("http: {listen: '127.0.0.1:%d'}\n", port)
	text = bytes.Replace(text, []byte(listen), fmt.Appendf(nil, "http:\n  listen: '127.0.0.1:%d'\n%s", port, more), 1)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, port, admin
}

// writeTokenFile makes a token and a tokens file with its line.
func writeTokenFile(t *testing.T, dir, name string) (token, file string) {
	t.Helper()
	token, line := newToken(t, name)
	file = filepath.Join(dir, "tokens")
	write(t, file, line)
	return token, file
}

// TestClientExamples runs each program of docs/clients.md behind a proxy. The proxy loses
// one answer and answers the repeated request with 503.
func TestClientExamples(t *testing.T) {
	page, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	run := map[string][]string{
		"sh": {"bash", "usages.sh"}, "python": {"python3", "usages.py"}, "js": {"node", "usages.mjs"},
		"go": {"go", "run", "usages.go"}, "java": {"java", "Usages.java"},
	}
	blocks := regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != len(run) {
		t.Fatalf("%d programs, want %d", len(blocks), len(run))
	}
	for _, b := range blocks {
		language, program := string(b[1]), b[2]
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			command := run[language]
			for _, program := range append(map[string][]string{"java": {"javac"}}[language], command[0]) { // a source file needs a compiler
				if _, err := exec.LookPath(program); err != nil {
					skipMissing(t, program)
				}
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, command[len(command)-1]), program, 0o600); err != nil {
				t.Fatal(err)
			}
			token, tokens := writeTokenFile(t, dir, "ward-3")
			configFile, port, admin := configureHTTP(t, dir, "  tokens_file: "+tokens+"\n")
			d := start(t, configFile, port, admin)
			lossy := newLossyProxy(t, port)
			cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "COLLECTORD_TOKEN="+token, "COLLECTORD_URL="+lossy.url)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			until(t, "the datagram is in the log", func() bool { return d.metrics()[`collectord_usages_appended_total{source="udp"}`] == 1 })
			d.stop()
			var got []string
			for _, line := range strings.Split(strings.TrimSpace(mustRun(t, "cat", "--config", configFile)), "\n") {
				patient := regexp.MustCompile(`"client":("ward-3"|null).*"patientId": ?"(\d+)"`).FindStringSubmatch(line)
				if patient == nil || (patient[1] == "null") != (patient[2] == "104") {
					t.Fatalf("stored: %s", line)
				}
				got = append(got, patient[2])
			}
			slices.Sort(got)
			if want := []string{"100", "101", "102", "103", "104"}; !slices.Equal(got, want) {
				t.Errorf("stored %v, want %v", got, want)
			}
			if n := lossy.about103.Load(); n != 3 {
				t.Errorf("patient 103 was sent %d times, want 3", n)
			}
		})
	}
}

// lossyProxy forwards requests and datagrams. It loses the first answer about patient 103,
// and answers the second request itself.
type lossyProxy struct {
	url      string
	about103 atomic.Int32 // requests about patient 103
}

func newLossyProxy(t *testing.T, port int) *lossyProxy {
	t.Helper()
	own := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	p, daemon := &lossyProxy{url: "http://" + own}, fmt.Sprintf("127.0.0.1:%d", port)
	ln, err := net.Listen("tcp", own)
	if err != nil {
		t.Fatal(err)
	}
	in, err := net.ListenPacket("udp", own)
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("udp", daemon)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.forward(t, w, r, daemon) })}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(ln) }()
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, _, err := in.ReadFrom(b)
			if err == nil {
				_, err = out.Write(b[:n])
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = errors.Join(server.Shutdown(context.Background()), in.Close(), out.Close())
		<-ended
		<-ended
	})
	return p
}

func (p *lossyProxy) forward(t *testing.T, w http.ResponseWriter, r *http.Request, daemon string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
		return
	}
	isAbout103 := bytes.Contains(body, []byte(`103`))
	try := int32(0)
	if isAbout103 {
		try = p.about103.Add(1)
	}
	if try == 2 {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"overloaded"}`)
		return
	}
	passed, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+daemon+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	passed.Header = r.Header.Clone()
	passed.Host = r.Host
	answer, err := http.DefaultTransport.RoundTrip(passed)
	if err != nil {
		t.Error(err)
		return
	}
	defer answer.Body.Close()
	if try == 1 {
		panic(http.ErrAbortHandler) // the connection is closed without an answer
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}
