package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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

	"golang.org/x/sys/unix"

	"collectord/collectord/send"
	"collectord/collectord/testrun"
)

// runSend runs collectord send --json and returns its summary and exit status.
func runSend(t *testing.T, args ...string) (s send.Summary, status int) {
	t.Helper()
	c := command(t, append([]string{"send", "--json"}, args...)...)
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if status = c.ProcessState.ExitCode(); status == exitError {
		return s, status
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		t.Fatalf("%v: %v: %s%s", args, err, out.Bytes(), stderr.Bytes())
	}
	if strings.Contains(stderr.String(), "\r") {
		t.Errorf("%v: a progress bar is written to a pipe: %q", args, stderr.String())
	}
	return s, status
}

func TestSendDeliversExactlyWhatItCounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	file := filepath.Join(dir, "usages.ndjson")
	if err := os.WriteFile(file, []byte(strings.Repeat("{\"a\":1}\n{\"b\":[2]}\n", 50)), 0o600); err != nil {
		t.Fatal(err)
	}
	web, udp := fmt.Sprintf("http://127.0.0.1:%d", port), fmt.Sprintf("udp://127.0.0.1:%d", port)
	all := 0
	for args, usages := range map[string]int{
		web:                                  1,
		web + " --count 500 --connections 7": 500,
		web + " --count 1005 --batch 100":    1005,
		web + " --count 1005 --batch 100 --ndjson":                             1005,
		web + " --count 1005 --batch 100 --compress gzip --connections 3":      1005,
		web + " --count 1005 --batch 100 --ndjson --compress zstd --prepare 3": 1005,
		web + " --count 300 --retry-for 1m --connections 3":                    300,
		web + " --count 300 --rate 3000 --connections 5":                       300,
		web + " --payload " + file:                                             100,
		web + " --payload " + file + " --count 250 --batch 30":                 250,
		"--config " + config + " --count 3":                                    3,
		udp + " --count 1000 --rate 20000":                                     1000,
		udp + " --count 1005 --batch 14 --rate 200000":                         1005,
		udp + " --count 1000 --batch 14 --rate 200000 --connections 3":         1000,
		udp + " --rate 5000 --batch 7 --payload " + file:                       100,
	} {
		s, status := runSend(t, strings.Fields(args)...)
		all += usages
		got := int(s.UsagesAcknowledged)
		if strings.HasPrefix(args, "udp") {
			got = int(s.UsagesSent)
		}
		if status != 0 || got != usages || !s.Complete() {
			t.Errorf("%s: %d of %d usages, exit status %d: %+v", args, got, usages, status, s)
		}
		until(t, args, func() bool {
			m := d.metrics()
			return int(m[`collectord_usages_appended_total{source="http"}`]+m[`collectord_usages_appended_total{source="udp"}`]) == all
		})
	}
	d.stop()
	if records, _ := download(t, config); len(records) != all {
		t.Errorf("%d of %d usages in the archive", len(records), all)
	}
}

func TestSendKeepsItsRateOrReportsItsDelay(t *testing.T) {
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	s, status := runSend(t, fmt.Sprintf("http://127.0.0.1:%d", port), "--rate", "4000", "--duration", "500ms", "--connections", "8")
	// No usage is skipped, unless the machine is overloaded.
	if s.UsagesAcknowledged+s.UsagesUnsent != 2000 || (status == 0) != (s.UsagesUnsent == 0) {
		t.Errorf("exit status %d: %+v", status, s)
	}
	d.stop()
	if records, _ := download(t, config); len(records) != int(s.UsagesAcknowledged) {
		t.Errorf("%d in the archive, %d acknowledged", len(records), s.UsagesAcknowledged)
	}
}

// dropper is a proxy that forwards requests and sometimes drops the answer.
type dropper struct {
	net.Listener
	to      string
	answers atomic.Int64
}

func (p *dropper) run() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", p.to)
			if err != nil {
				return // the daemon is being restarted
			}
			defer out.Close()
			go io.Copy(out, in)
			b := make([]byte, 4<<10)
			for {
				n, err := out.Read(b) // a whole answer, since only one request is in progress
				if err != nil || p.answers.Add(1)%5 == 0 {
					return
				}
				if _, err := in.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func TestSendRepeatsUntilEachUsageIsAcknowledgedAndNoneIsTwo(t *testing.T) {
	t.Parallel()
	const n = 3000
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	proxy := &dropper{Listener: ln, to: fmt.Sprintf("127.0.0.1:%d", port)}
	go proxy.run()
	type result struct {
		s      send.Summary
		status int
	}
	done := make(chan result, 1)
	go func() {
		s, status := runSend(t, "http://"+ln.Addr().String(), "--count", strconv.Itoa(n), "--batch", "2", "--connections", "16", "--retry-for", "1m", "--seed", "1")
		done <- result{s, status}
	}()
	for _, share := range []int64{3, 6} { // each restart makes the daemon forget the keys
		until(t, "some requests are answered", func() bool { return proxy.answers.Load() > n/20*share })
		d.kill()
		d = start(t, config, port, admin)
	}
	r := <-done
	if r.status != 0 || r.s.UsagesAcknowledged != n || r.s.UsagesSent != n || r.s.Retries == 0 || r.s.UsagesRepeated == 0 || len(r.s.Errors) == 0 {
		t.Errorf("exit status %d: %+v", r.status, r.s)
	}
	d.stop()
	records, _ := download(t, config)
	ids := map[string]bool{}
	for _, rec := range records {
		ids[rec.ID] = true
	}
	t.Logf("%d acknowledged, %d repeated by their key; %d retries; %d records, %d ids", r.s.UsagesAcknowledged, r.s.UsagesRepeated, r.s.Retries, len(records), len(ids))
	if len(ids) != n {
		t.Errorf("%d usages, %d ids in the archive", n, len(ids))
	}
}

func TestInterruptedSendReportsWhatIsStored(t *testing.T) {
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	stored := 0
	for _, more := range [][]string{{}, {"--rate", "5000"}, {"--batch", "10", "--count", "100000000"}} {
		c := command(t, append([]string{"send", fmt.Sprintf("http://127.0.0.1:%d", port), "--json", "--connections", "16", "--duration", "1h"}, more...)...)
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "some usages are stored", func() bool {
			return d.metrics()[`collectord_usages_appended_total{source="http"}`] > float64(stored+500)
		})
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		err := c.Wait()
		var s send.Summary
		if err := json.Unmarshal(out.Bytes(), &s); err != nil {
			t.Fatalf("%v: %s", err, out.Bytes())
		}
		if err != nil || !s.Interrupted || s.UsagesAcknowledged != s.UsagesSent {
			t.Errorf("%v: %v: %+v", more, err, s)
		}
		stored += int(s.UsagesAcknowledged)
	}
	d.stop()
	if records, _ := download(t, config); len(records) != stored {
		t.Errorf("%d in the archive, %d acknowledged", len(records), stored)
	}
}

func TestASecondInterruptEndsSendAtOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a server that never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := command(t, "send", "http://"+ln.Addr().String())
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	held, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := held.Read(make([]byte, 1)); err != nil { // the request has arrived
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Wait() }()
	until(t, "the process has ended", func() bool {
		_ = c.Process.Signal(os.Interrupt)
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("send ended with %v", c.ProcessState)
	}
}

// openTerminal opens a pseudoterminal (pts(4)).
func openTerminal(t *testing.T) (outside, inside *os.File) {
	t.Helper()
	outside, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outside.Close() })
	raw, err := outside.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	if inside, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return outside, inside
}

func TestSendDrawsAProgressBarOnATerminalAndClearsIt(t *testing.T) {
	config, port, admin := configure(t, t.TempDir(), "")
	d := start(t, config, port, admin)
	outside, inside := openTerminal(t)
	c := command(t, "send", fmt.Sprintf("http://127.0.0.1:%d", port), "--rate", "1000", "--count", "700")
	c.Stderr = inside
	drawn := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(outside) // until all descriptors of the other end are closed
		drawn <- string(all)
	}()
	out, err := c.Output()
	inside.Close()
	bar := <-drawn
	if err != nil || strings.Contains(string(out), "\r") || !regexp.MustCompile(`^\r\[#+\.+\] +\d+ %`).MatchString(bar) || !strings.HasSuffix(bar, "\r\x1b[K") {
		t.Errorf("%v: %q: %s", err, bar, out)
	}
	d.stop()
}

func TestSendNeverPrintsItsToken(t *testing.T) {
	t.Parallel()
	const secret = "cd_secret-of-this-test"
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	closedPort := freePorts(t, 1)[0]
	for _, args := range []string{
		fmt.Sprintf("http://127.0.0.1:%d --count 10", port), fmt.Sprintf("http://127.0.0.1:%d --json", port), fmt.Sprintf("http://127.0.0.1:%d", closedPort),
		fmt.Sprintf("http://127.0.0.1:%d --retry-for 100ms", closedPort), "ftp://a", "--compress br", "--help",
	} {
		for _, how := range []string{"file", "variable"} {
			c := command(t, append([]string{"send"}, strings.Fields(args)...)...)
			if how == "file" {
				c.Args = append(c.Args, "--token-file", file)
			} else {
				c.Env = append(os.Environ(), tokenVariable+"="+secret)
			}
			out, _ := c.CombinedOutput()
			if len(out) == 0 || strings.Contains(string(out), secret) || strings.Contains(strings.Join(c.Args, " "), secret) {
				t.Errorf("%v: %s", c.Args, out)
			}
		}
	}
	if strings.Contains(d.log(), secret) {
		t.Error("the daemon logs the token")
	}
	d.stop()
}

func TestSendExitStatusIsByOutcome(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("{\"a\":1}\nno JSON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	web := fmt.Sprintf("http://127.0.0.1:%d", port)
	closedPort := freePorts(t, 1)[0]
	for args, want := range map[string]int{
		web:                       0,
		web + " --payload " + bad: exitNotRight,
		web + " --payload " + bad + " --batch 2 --ndjson": exitNotRight,
		web + "/elsewhere": exitNotRight,
		fmt.Sprintf("udp://127.0.0.1:%d", closedPort):                   exitNotRight,
		fmt.Sprintf("http://127.0.0.1:%d", closedPort):                  exitError,
		fmt.Sprintf("http://127.0.0.1:%d --retry-for 50ms", closedPort): exitNotRight,
		web + " --payload " + dir + "/none":                             exitError,
		web + " --token-file " + dir + "/none":                          exitError,
		web + " --ca-file " + bad:                                       exitError,
		"localhost:3000":                                                exitError,
	} {
		if _, status := runSend(t, strings.Fields(args)...); status != want {
			t.Errorf("%s exits with %d, want %d", args, status, want)
		}
	}
	d.stop()
}

// TestDocumentedSendsWork runs the commands of docs/send.md.
func TestDocumentedSendsWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/send.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o750); err != nil {
		t.Fatal(err)
	}
	// On a busy machine some usages may not be sent in time.
	script := `#!/bin/sh
out=$("` + path + `" "$@")
status=$?
echo "$out"
case "$status $out" in "2 "*" 0 rejected, 0 failed, "*" not sent"*) exit 0 ;; esac
exit $status
`
	if err := testrun.WriteProgram(filepath.Join(dir, "bin", "collectord"), []byte(script)); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(block[1], "collectord send") {
			continue
		}
		script := strings.ReplaceAll(block[1], "localhost:3000", fmt.Sprintf("127.0.0.1:%d", port))
		script = regexp.MustCompile(`(?m)collectord send( --| *#| *$)`).ReplaceAllString(script, fmt.Sprintf("collectord send http://127.0.0.1:%d$1", port))
		c := exec.Command("bash", "-euo", "pipefail", "-c", script)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s: %s", err, script, out)
		}
		ran += strings.Count(block[1], "collectord send")
	}
	if ran < 5 {
		t.Errorf("%d commands", ran)
	}
	d.stop()
	if records, _ := download(t, config); len(records) < ran {
		t.Errorf("%d usages in the archive", len(records))
	}
}

func TestSendHelpExplainsItsJSON(t *testing.T) {
	help := sendCommand().Long
	names := regexp.MustCompile(`"([a-z0-9_]+)":`)
	text, err := json.Marshal(send.Summary{ID: "x", Latency: &send.Latency{}})
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, m := range names.FindAllStringSubmatch(string(text), -1) {
		if !regexp.MustCompile(`\b` + m[1] + `\b`).MatchString(help) {
			missing = append(missing, m[1])
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("the help does not explain %v", missing)
	}
}
