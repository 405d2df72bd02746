//go:build packages

package test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// requirePrograms checks that the test runs as root and that the programs are installed.
func requirePrograms(t *testing.T, programs ...string) {
	t.Helper()
	missing := ""
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = p
		}
	}
	skipMissing(t, missing)
}

// skipMissing skips the test if a requirement is missing and ALLOW_MISSING=1 is set.
// Otherwise a missing requirement fails it.
func skipMissing(t *testing.T, missing string) {
	t.Helper()
	switch {
	case missing == "":
	case os.Getenv("ALLOW_MISSING") == "1":
		t.Skipf("no %s here, and ALLOW_MISSING=1 is set", missing)
	default:
		t.Fatalf("this proof needs %s: set ALLOW_MISSING=1 to skip it", missing)
	}
}

func mustExec(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// waitUntil polls until a condition holds, and fails the test after a minute.
func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// machine is a booted tree in a network namespace that has only loopback.
type machine struct {
	t      *testing.T
	root   string
	leader int // process id of its systemd on this host
	http.Client
}

var machines atomic.Int64 // for unique names

// makeCgroups makes a cgroup of that name in each hierarchy that a systemd manages. Two
// systemds in the same cgroup would manage each other's processes.
func makeCgroups(t *testing.T, name string) (dirs []string) {
	t.Helper()
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		skipMissing(t, err.Error())
	}
	for line := range strings.Lines(string(ours)) {
		_, hierarchy, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(hierarchy, ":")
		mount := "/sys/fs/cgroup"
		switch _, hybrid := os.Stat(mount + "/unified"); {
		case controllers == "name=systemd":
			mount += "/systemd"
		case controllers != "":
			continue
		case hybrid == nil:
			mount += "/unified"
		}
		dir := filepath.Join(mount, path, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			skipMissing(t, "cgroup: "+err.Error())
		}
		t.Cleanup(func() { _ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run() })
		dirs = append(dirs, dir)
	}
	return dirs
}

// boot starts a systemd in the tree.
func boot(t *testing.T, root string) *machine {
	t.Helper()
	m := &machine{t: t, root: root}
	console, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	name := "collectord-test-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(machines.Add(1), 10)
	nspawn := exec.Command("sh", "-c", `
		for group in $1; do echo $$ >$group/cgroup.procs || exit; done
		exec systemd-nspawn -D "$2" --machine="$3" --boot --register=no --keep-unit --private-network --console=read-only`,
		"sh", strings.Join(makeCgroups(t, name), " "), root, name)
	nspawn.Stdout, nspawn.Stderr = console, console
	if err := nspawn.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = nspawn.Wait() }()
	t.Cleanup(func() {
		if m.leader != 0 {
			_ = syscall.Kill(m.leader, unix.SIGKILL) // ends all that runs in it
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = nspawn.Process.Kill()
			<-ended
		}
	})
	waitUntil(t, "the machine starts", func() bool {
		select {
		case <-ended:
			output, _ := os.ReadFile(console.Name())
			skipMissing(t, "machine: "+string(output))
		default:
		}
		m.leader = initBelow(nspawn.Process.Pid)
		return m.leader != 0
	})
	waitUntil(t, "the machine is up", func() bool {
		out, _ := m.try("systemctl", "is-system-running")
		return strings.HasPrefix(out, "running") || strings.HasPrefix(out, "degraded")
	})
	m.Client = http.Client{Transport: &http.Transport{DialContext: m.dial}, Timeout: 30 * time.Second}
	t.Cleanup(m.CloseIdleConnections)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.try("journalctl", "--no-pager", "--lines=60", "--output=cat")
			t.Logf("the machine's journal:\n%s", out)
		}
	})
	return m
}

// initBelow returns the child of a process that is the first process of its PID namespace,
// or 0.
func initBelow(pid int) int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, child := range strings.Fields(string(children)) {
		status, _ := os.ReadFile("/proc/" + child + "/status")
		for line := range strings.Lines(string(status)) {
			if ids := strings.Fields(line); len(ids) == 3 && ids[0] == "NSpid:" && ids[2] == "1" {
				n, _ := strconv.Atoi(child)
				return n
			}
		}
	}
	return 0
}

// try runs a command in the machine and returns what it printed.
func (m *machine) try(args ...string) (string, error) {
	c := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(m.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--"}, args...)...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}
	out, err := c.CombinedOutput()
	return strings.TrimRight(string(out), "\n"), err
}

// do runs a command that must not fail in the machine, and returns what it printed.
func (m *machine) do(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// shell runs a line of sh in the machine.
func (m *machine) shell(line string) string {
	m.t.Helper()
	return m.do("sh", "-c", line)
}

// unitProperty returns a property of the service.
func (m *machine) unitProperty(property string) string {
	m.t.Helper()
	return m.do("systemctl", "show", "--property="+property, "--value", "collectord.service")
}

func (m *machine) pid() int {
	m.t.Helper()
	n, err := strconv.Atoi(m.unitProperty("MainPID"))
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// hostPid returns the daemon's process id on this host.
func (m *machine) hostPid() int {
	m.t.Helper()
	inside := m.unitProperty("MainPID")
	entries, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		m.t.Fatal(err)
	}
	ours, err := os.Readlink("/proc/" + strconv.Itoa(m.leader) + "/ns/pid")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		dir := filepath.Dir(e)
		if ns, err := os.Readlink(dir + "/ns/pid"); err != nil || ns != ours {
			continue
		}
		status, _ := os.ReadFile(e)
		for line := range strings.Lines(string(status)) {
			if ids := strings.Fields(line); len(ids) == 3 && ids[0] == "NSpid:" && ids[2] == inside {
				n, _ := strconv.Atoi(ids[1])
				return n
			}
		}
	}
	m.t.Fatal("the daemon's process is not found")
	return 0
}

// crash kills the daemon and prevents its restart.
func (m *machine) crash() {
	m.t.Helper()
	m.write("/etc/systemd/system/collectord.service.d/crash.conf", "[Service]\nRestart=no\n")
	m.do("systemctl", "daemon-reload")
	m.do("kill", "-9", strconv.Itoa(m.pid()))
	m.awaitState("failed")
}

// awaitState waits until the service has a state such as active or failed.
func (m *machine) awaitState(want string) {
	m.t.Helper()
	waitUntil(m.t, "the service is "+want, func() bool { return m.unitProperty("ActiveState") == want })
}

// write replaces a file in the machine.
func (m *machine) write(path, content string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(m.root, path))
	return err == nil
}
