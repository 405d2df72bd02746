package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withOpenFileLimit returns a command that runs with a limit of open files. ulimit has the
// arguments of the shell's ulimit.
func withOpenFileLimit(run *exec.Cmd, ulimit string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", "ulimit " + ulimit + " && exec \"$0\" \"$@\""}, run.Args...)...)
}

// dialIdle connects n clients to a port and sends text on each.
func dialIdle(t *testing.T, port, n int, text string) {
	t.Helper()
	for range n {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), testTimeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetWriteDeadline(time.Now().Add(testTimeout))
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
}

// openFiles returns the number of the daemon's open descriptors.
func (d *daemon) openFiles() int {
	d.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	return len(all)
}

// postSealAndShip posts over a new connection, has the segment sealed, and waits until the
// segment is shipped.
func (d *daemon) postSealAndShip(when string) {
	d.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testTimeout}
	before := d.metrics()["collectord_usages_shipped_total"]
	// The post may fail at first: the server closes no connection that has been idle for less
	// than a second.
	until(d.t, when+": a usage is stored", func() bool { return postAs(d.t, client, d.url(), "") == http.StatusCreated })
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		d.t.Fatal(err)
	}
	until(d.t, when+": the segment is shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] > before })
}

// With 256 descriptors and more idle clients on each listener, the daemon still writes,
// seals and ships its log, and serves metrics.
func TestIdleClientsLeaveDescriptorsForTheLog(t *testing.T) {
	t.Parallel() // the test mostly waits
	config, port, admin := configure(t, t.TempDir(), "")
	d := startCommand(t, withOpenFileLimit(command(t, "run", "--config", config), "-n 256"), port, admin)
	d.untilLogged("fewer connections may be open than http.max_connections")
	const usage = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
	dialIdle(t, admin, 150, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
	dialIdle(t, port, 153, "POST /api/usages HTTP/1.1\r\n")
	dialIdle(t, port, 153, usage)
	dialIdle(t, admin, 150, "GET /met")
	for i := range 5 {
		d.postSealAndShip(fmt.Sprintf("round %d", i))
		dialIdle(t, port, 50, usage)
	}
	m := d.metrics()
	if limit := m["collectord_http_connections_max"]; limit < 64 || limit > 200 {
		t.Errorf("the limit of connections is %v", limit)
	}
	if open := d.openFiles(); open > 256-ownDescriptors {
		t.Errorf("%d descriptors are open", open)
	}
	if strings.Contains(d.log(), "too many open files") {
		t.Error("the daemon ran out of descriptors")
	}
	d.stop()
}

// An operator may lower the limit while the daemon runs. The daemon then closes idle
// connections, even if no client connects. While no descriptor is free, the log waits.
func TestTheDaemonSurvivesExhaustedDescriptors(t *testing.T) {
	t.Parallel() // the test mostly waits
	config, port, admin := configure(t, t.TempDir(), "")
	replaceInFile(t, config, "http: {", "http: {max_connections: 1000, ")
	// The soft limit is raised to the hard limit.
	d := startCommand(t, withOpenFileLimit(command(t, "run", "--config", config), "-Sn 64"), port, admin)
	if m := d.metrics(); m["collectord_http_connections_max"] != 1000 || m["process_max_fds"] < 1024 {
		t.Fatalf("%v connections may be open, %v files", m["collectord_http_connections_max"], m["process_max_fds"])
	}
	dialIdle(t, port, 400, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	until(t, "all connections are open", func() bool { return d.connections() == 400 })
	var was unix.Rlimit
	limit := func(open int) {
		t.Helper()
		next := unix.Rlimit{Cur: uint64(open), Max: was.Max}
		if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, &next, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	const lower = 450
	limit(lower)
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.untilLogged("fewer connections may be open than http.max_connections")
	until(t, "idle connections are closed", func() bool { return d.openFiles() <= lower-ownDescriptors })
	d.postSealAndShip("with a lower limit")

	warm := &http.Client{Timeout: testTimeout}
	defer warm.CloseIdleConnections()
	if got := postAs(t, warm, d.url(), ""); got != http.StatusCreated {
		t.Fatal(got)
	}
	limit(1)
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	d.untilLogged("too many open files")
	limit(lower)
	d.postSealAndShip("once there are descriptors again")
	d.stop()
}
