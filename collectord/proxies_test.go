//go:build torture

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// startProxy starts a proxy with its configuration from packaging, before one to three
// collectors. With longKeepAlive it keeps idle connections longer than collectors do.
type startProxy func(t *testing.T, longKeepAlive bool, collectors ...*daemon) *proxy

// proxies returns the proxies for which packaging has a configuration.
func proxies() map[string]startProxy {
	return map[string]startProxy{"nginx": startNginxWithKeepAlive, "HAProxy": startHAProxy, "Caddy": startCaddy}
}

func startNginxWithKeepAlive(t *testing.T, longKeepAlive bool, collectors ...*daemon) *proxy {
	t.Helper()
	skipMissing(t, notInstalled("nginx"))
	if longKeepAlive {
		return startNginx(t, "120s", collectors...)
	}
	return startNginx(t, "60s", collectors...)
}

func startHAProxy(t *testing.T, longKeepAlive bool, collectors ...*daemon) *proxy {
	t.Helper()
	skipMissing(t, notInstalled("haproxy"))
	p := &proxy{t: t, port: freePorts(t, 1)[0]}
	changes := map[string]string{
		"bind :80":           fmt.Sprintf("bind 127.0.0.1:%d", p.port),
		"tune.bufsize 65536": "tune.bufsize 65536\n    log stdout format raw local0",
		"    mode http\n":    "    mode http\n    log global\n    option httplog\n    option dontlog-normal # only what failed or was repeated\n",
	}
	if longKeepAlive {
		changes["http-reuse always"] = "http-reuse always\n    default-server pool-purge-delay 120s"
	}
	dir := t.TempDir()
	text := packagedConfig(t, "haproxy.cfg", regexp.MustCompile(`(?m)^ +server collector([123]) 10\.0\.0\.1[123]:3000\n`), collectors, changes)
	p.run(dir, "haproxy.cfg", text, func(config string) *exec.Cmd {
		return exec.Command("haproxy", "-db", "-f", config)
	})
	return p
}

func startCaddy(t *testing.T, longKeepAlive bool, collectors ...*daemon) *proxy {
	t.Helper()
	program := s3test.Tool(t, "TEST_CADDY", "caddy")
	p := &proxy{t: t, port: freePorts(t, 1)[0]}
	changes := map[string]string{":80 {": fmt.Sprintf("{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}\n:%d {\n\tlog\n\tlog_append retries {http.reverse_proxy.retries}\n", p.port)}
	if longKeepAlive {
		changes["keepalive 60s"] = "keepalive 120s"
	}
	dir := t.TempDir()
	text := packagedConfig(t, "Caddyfile", regexp.MustCompile(` 10\.0\.0\.1([123]):3000`), collectors, changes)
	p.run(dir, "Caddyfile", text, func(config string) *exec.Cmd {
		cmd := exec.Command(program, "run", "--adapter", "caddyfile", "--config", config)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		return cmd
	})
	return p
}

// packagedConfig returns a configuration from packaging, with changes. The file names three
// collectors, each twice. The given collectors replace these.
func packagedConfig(t *testing.T, name string, server *regexp.Regexp, collectors []*daemon, changes map[string]string) string {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("../packaging", name))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(server.FindAllString(string(file), -1)); n != 6 {
		t.Fatalf("packaging/%s has %d servers, want three, each twice", name, n)
	}
	address := regexp.MustCompile(`10\.0\.0\.1[123]:3000`)
	text := server.ReplaceAllStringFunc(string(file), func(line string) string {
		i := int(server.FindStringSubmatch(line)[1][0] - '1')
		if i >= len(collectors) {
			return ""
		}
		return address.ReplaceAllString(line, fmt.Sprintf("127.0.0.1:%d", collectors[i].port))
	})
	for from, to := range changes {
		if strings.Count(text, from) != 1 {
			t.Fatalf("packaging/%s does not have %q once", name, from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	return text
}

// run starts the proxy with a configuration, and ends it with the test.
func (p *proxy) run(dir, name, config string, command func(path string) *exec.Cmd) {
	p.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.log = output.Name()
	cmd := command(path)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		output.Close()
		if text, err := os.ReadFile(output.Name()); err == nil && p.t.Failed() {
			p.t.Logf("%s: %.4000s", name, text)
		}
	})
	p.waitReady()
}

// countRepeats returns how often the proxy repeated a request.
func (p *proxy) countRepeats() (n int) {
	p.t.Helper()
	nginx := regexp.MustCompile(`^[-\d]+(?:(?:, | : )[-\d]+)*\|`)
	others := regexp.MustCompile(`(?:/\d+){3}/\+?(\d+) \d+/\d+ |"retries":(\d+)`)
	for _, line := range p.lines() {
		if nginx.MatchString(line) {
			n += strings.Count(line, ", ") + strings.Count(line, " : ")
		} else if m := others.FindStringSubmatch(line); m != nil {
			again, _ := strconv.Atoi(m[1] + m[2])
			n += again
		}
	}
	return n
}

// waitReady waits until the proxy answers.
func (p *proxy) waitReady() {
	p.t.Helper()
	until(p.t, "the proxy answers", func() bool {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", p.port))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}
