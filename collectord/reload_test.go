package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"collectord/config"
)

func loadConfig(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "collectord.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(config.Source{Path: path})
	return c, err
}

func TestAReloadIsAllOrNothing(t *testing.T) {
	first, err := loadConfig(t, "")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	file := ""
	r := newReloader(first, func() (*plan, error) {
		path := filepath.Join(t.TempDir(), "collectord.yaml")
		write(t, path, file)
		return newPlan(config.Source{Path: path})
	}, slog.New(slog.NewTextHandler(&text, nil)))
	var committed []string
	r.register(func(p *plan) { committed = append(committed, p.cfg.Log.Level) })
	r.register(func(p *plan) { committed = append(committed, fmt.Sprint(p.policy.Anonymous)) })

	began := r.snapshot().At
	file = "log: {level: loud}\nhttp: {max_record: 1}\n"
	r.reload()
	if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "nothing was changed") || !strings.Contains(got, "log.level") || !strings.Contains(got, "http.max_record") {
		t.Errorf("logged: %s", got)
	}
	file = "log: {level: debug}\nhttp: {tokens_file: /nonexistent/tokens}\n"
	r.reload()
	if !strings.Contains(text.String(), "http.tokens_file (/nonexistent/tokens): no such file") || len(committed) > 0 || r.config() != first || r.snapshot().OK || r.snapshot().At != began {
		t.Errorf("after a file was refused: committed %v, %+v: %s", committed, r.snapshot(), text.String())
	}
	text.Reset()
	file = "log: {level: debug}\nudp: {sockets: 3}\nhttp: {anonymous: true}\n"
	r.reload()
	if fmt.Sprint(committed) != "[debug true]" || r.config().Log.Level != "debug" || r.config().UDP.Sockets != 0 || !r.snapshot().OK {
		t.Errorf("committed %v, %+v", committed, r.config())
	}
	if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `changed="[http.anonymous: false -> true log.level: info -> debug]"`) || !strings.Contains(got, `needs_restart="[udp.sockets: 0 -> 3]"`) {
		t.Errorf("logged: %s", got)
	}
	text.Reset()
	r.reload() // a change that needs a restart is logged again
	if got := text.String(); !strings.Contains(got, `changed=[] needs_restart="[udp.sockets: 0 -> 3]"`) {
		t.Errorf("logged: %s", got)
	}
}

// rewriteConfig replaces a part of a daemon's configuration file and sends SIGHUP.
func (d *daemon) rewriteConfig(config, from, to string) {
	d.t.Helper()
	text, err := os.ReadFile(config)
	if err != nil || !strings.Contains(string(text), from) {
		d.t.Fatalf("no %q in the configuration: %v", from, err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) untilLogged(text string) {
	d.t.Helper()
	until(d.t, "the daemon logs: "+text, func() bool { return strings.Contains(d.log(), text) })
}

func TestSIGHUPChangesLimitsOfARunningDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {seal_after: 1h, min_free: 0, max_bytes: 64MiB}\n")
	d := start(t, config, port, admin)
	status := func() int {
		resp, err := http.Post(d.url(), "application/json", strings.NewReader(`{"a":"`+strings.Repeat("x", 2000)+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := status(); got != http.StatusCreated {
		t.Fatalf("status %d", got)
	}
	before := d.metrics()["collectord_config_last_reload_success_timestamp_seconds"]

	d.rewriteConfig(config, "http: {", "http: {max_record: 1KiB, ")
	d.untilLogged("http.max_record: 1MiB -> 1KiB")
	if got := status(); got != http.StatusRequestEntityTooLarge {
		t.Errorf("a usage above the new http.max_record is answered %d", got)
	}
	d.rewriteConfig(config, "seal_after: 1h", "seal_after: 100ms")
	until(t, "the segment is sealed after the shorter wal.seal_after, and shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] == 1 })
	d.rewriteConfig(config, "max_bytes: 64MiB", "max_bytes: 48MiB")
	until(t, "the bound is lowered", func() bool { return d.metrics()["collectord_wal_max_bytes"] == 48<<20 })
	m := d.metrics()
	if m["collectord_config_last_reload_successful"] != 1 || m["collectord_config_last_reload_success_timestamp_seconds"] <= before {
		t.Errorf("the metrics report the reload as %v at %v", m["collectord_config_last_reload_successful"], m["collectord_config_last_reload_success_timestamp_seconds"])
	}

	d.rewriteConfig(config, "max_bytes: 48MiB", "max_bytes: 32MiB, seal_befor: 1s")
	d.untilLogged("the nearest is wal.seal_after")
	m = d.metrics()
	if m["collectord_config_last_reload_successful"] != 0 || m["collectord_wal_max_bytes"] != 48<<20 {
		t.Errorf("after a bad file: %v, wal.max_bytes %v", m["collectord_config_last_reload_successful"], m["collectord_wal_max_bytes"])
	}
	d.rewriteConfig(config, ", seal_befor: 1s", ", segment_size: 4MiB")
	d.untilLogged("wal.segment_size: 64MiB -> 4MiB")
	if m = d.metrics(); m["collectord_wal_max_bytes"] != 32<<20 || m["collectord_config_last_reload_successful"] != 1 {
		t.Errorf("after the repair: wal.max_bytes %v", m["collectord_wal_max_bytes"])
	}
	d.stop()
}

func TestTheServiceManagerIsNotified(t *testing.T) {
	for name, socket := range map[string]string{"path": filepath.Join(t.TempDir(), "notify"), "abstract": fmt.Sprintf("@collectord-test-%d", os.Getpid())} {
		t.Run(name, func(t *testing.T) {
			m := startManager(t, socket)
			next := func() (state string) {
				t.Helper()
				until(t, "the service manager gets the next state", func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					if len(m.messages) > 0 {
						state, m.messages = m.messages[0], m.messages[1:]
					}
					return state != ""
				})
				return state
			}
			config, port, admin := configure(t, t.TempDir(), "")
			d := m.run(nil, config, port, admin)
			if got := next(); got != "READY=1" {
				t.Errorf("at the start: %q", got)
			}
			d.rewriteConfig(config, "log: {", "log: {level: debug, ")
			var micros int64
			if got := next(); true {
				if n, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d", &micros); n != 1 || err != nil || micros <= 0 {
					t.Errorf("at a reload: %q", got)
				}
			}
			if got := next(); got != "READY=1" {
				t.Errorf("after a reload: %q", got)
			}
			d.rewriteConfig(config, "level: debug", "level: loud")
			if got := next() + " " + next(); !strings.HasPrefix(got, "RELOADING=1\n") || !strings.HasSuffix(got, " READY=1") {
				t.Errorf("at a reload that fails: %q", got)
			}
			d.stop()
			if got := next(); got != "STOPPING=1" {
				t.Errorf("at the end: %q", got)
			}
		})
	}
	if err := notifier("").send("READY=1"); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	if err := notifier("/nonexistent/socket").send("READY=1"); err == nil {
		t.Error("a service manager that does not listen causes no error")
	}
}

func TestSIGHUPWhileStoppingIsIgnored(t *testing.T) {
	t.Parallel() // the test mostly waits
	config, port, admin := configure(t, t.TempDir(), "shutdown: {drain: 500ms}\n")
	var d *daemon
	until(t, "SIGHUP arrives before the end", func() bool {
		d = start(t, config, port, admin)
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)) // an open connection makes the daemon drain
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		until(t, "the connection is open", func() bool { return d.metrics()["collectord_http_connections"] == 1 })
		if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		d.untilLogged("stopping")
		err = d.cmd.Process.Signal(syscall.SIGHUP)
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		return err == nil
	})
	if err := <-d.exited; err != nil {
		t.Errorf("ended with %v", err)
	}
	if strings.Contains(d.log(), "reload") || !strings.Contains(d.log(), "msg=stopped ") {
		t.Error("SIGHUP was not ignored")
	}
}
