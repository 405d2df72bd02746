//go:build torture

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is a network namespace made for a test.
type network struct {
	t    *testing.T
	name string
}

func newNetwork(t *testing.T, name string) network {
	t.Helper()
	n := network{t, fmt.Sprintf("cd-%s-%d", name, os.Getpid())}
	mustExec(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.name).Run() })
	return n
}

// run runs a command in the namespace.
func (n network) run(name string, args ...string) {
	n.t.Helper()
	mustExec(n.t, "ip", append([]string{"netns", "exec", n.name, name}, args...)...)
}

// inside calls f on a thread in the namespace. Sockets made there stay in the namespace.
func (n network) inside(call func() error) {
	n.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is in the namespace, and ends with the goroutine
		ns, err := os.Open("/var/run/netns/" + n.name)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = call()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

// dial connects a UDP socket.
func (n network) dial(addr string) (conn net.Conn) {
	n.t.Helper()
	n.inside(func() (err error) {
		conn, err = net.Dial("udp", addr)
		return err
	})
	return conn
}

// TestALossyNetworkIsNotMistakenForLostUsages sends over a network that loses every tenth
// datagram. A lost datagram counts neither as a drop of the socket nor as one of the log.
// Every other datagram is in the ledger.
func TestALossyNetworkIsNotMistakenForLostUsages(t *testing.T) {
	requirePrograms(t, "ip", "iptables")
	dir := t.TempDir()
	ours, theirs := newNetwork(t, "ours"), newNetwork(t, "theirs")
	mustExec(t, "ip", "link", "add", "cd0", "netns", ours.name, "type", "veth", "peer", "name", "cd0", "netns", theirs.name)
	for i, n := range []network{ours, theirs} {
		n.run("ip", "addr", "add", fmt.Sprintf("10.99.99.%d/24", i+1), "dev", "cd0")
		n.run("ip", "addr", "add", fmt.Sprintf("fd99::%d/64", i+1), "dev", "cd0", "nodad")
		n.run("ip", "link", "set", "cd0", "up")
		n.run("ip", "link", "set", "lo", "up")
	}
	for _, tables := range []string{"iptables", "ip6tables"} {
		ours.run(tables, "-A", "INPUT", "-p", "udp", "--dport", "3000", "-m", "statistic", "--mode", "nth", "--every", "10", "--packet", "0", "-j", "DROP")
	}
	config, admin := filepath.Join(dir, "collectord.yaml"), filepath.Join(dir, "admin.sock")
	text := fmt.Sprintf("node: edge-1\ndata_dir: %s/data\nhttp: {listen: off}\nudp: {listen: ['10.99.99.1:3000', '[fd99::1]:3000'], allow: ['10.99.99.0/24', 'fd99::/64'], receive_buffer: 64KiB}\n"+
		"admin: {listen: 'unix:%s'}\nlog: {format: text}\n", dir, admin)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := command(t, "run", "--config", config)
	d := startCommand(t, exec.Command("ip", append([]string{"netns", "exec", ours.name}, run.Args...)...), 0, 0)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", admin)
	}}}
	defer client.CloseIdleConnections()
	scrape := func() map[string]float64 {
		resp, err := client.Get("http://localhost/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		m, err := parseMetrics(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}

	sent := 0.0
	for _, addr := range []string{"10.99.99.1:3000", "[fd99::1]:3000"} {
		conn := theirs.dial(addr)
		defer conn.Close()
		for end := time.Now().Add(time.Second); time.Now().Before(end); sent++ { // at full speed
			if _, err := conn.Write([]byte(usageText(int(sent), "udp"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	dropped := regexp.MustCompile(`(?m)^\s*(\d+)\s+\d+ DROP`)
	onTheWay := func() (n float64) {
		for _, tables := range []string{"iptables", "ip6tables"} {
			out, err := exec.Command("ip", "netns", "exec", ours.name, tables, "-nvxL", "INPUT").Output()
			m := dropped.FindSubmatch(out)
			if err != nil || m == nil {
				t.Fatalf("%v: %s", err, out)
			}
			v, err := strconv.ParseFloat(string(m[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			n += v
		}
		return n
	}
	var m map[string]float64
	until(t, "no datagram is unread or waiting", func() bool {
		m = scrape()
		return m["collectord_udp_datagrams_total"]+m["collectord_udp_kernel_drops_total"]+onTheWay() == sent &&
			m[`collectord_usages_waiting{source="udp"}`] == 0
	})
	d.checkLedger(m)
	lost, read, kernel := onTheWay(), m["collectord_udp_datagrams_total"], m["collectord_udp_kernel_drops_total"]
	if part := lost / sent; part < 0.099 || part > 0.101 {
		t.Errorf("%v of %v datagrams were lost on the way", lost, sent)
	}
	stored := m[`collectord_usages_appended_total{source="udp"}`]
	if received := m[`collectord_usages_received_total{source="udp"}`]; received != read || stored == 0 {
		t.Errorf("%v datagrams of one usage read, %v usages received, %v stored", read, received, stored)
	}
	d.stop()
	out, err := command(t, "wal", "cat", "--config", config).Output()
	if err != nil {
		t.Fatal(err)
	}
	archived, err := command(t, "cat", "--config", config).Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := float64(bytes.Count(out, []byte("\n")) + bytes.Count(archived, []byte("\n"))); n != stored {
		t.Errorf("%v usages in log and archive, %v stored", n, stored)
	}
	t.Logf("%v sent: %v lost on the way, %v dropped by the kernel, %v read, %v stored", sent, lost, kernel, read, stored)
}
