//go:build packages

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needs fails the test where something is missing, unless that is allowed.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	missing := ""
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = p
		}
	}
	goWithout(t, missing)
}

// goWithout fails the test for what is missing, unless that is allowed.
func goWithout(t *testing.T, missing string) {
	t.Helper()
	switch {
	case missing == "":
	case os.Getenv("ALLOW_MISSING") == "1":
		t.Skipf("no %s here, and ALLOW_MISSING=1 is set", missing)
	default:
		t.Fatalf("this proof needs %s: set ALLOW_MISSING=1 to go without it", missing)
	}
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// within polls until a condition holds, and fails the test after a minute.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// debian is a minimal Debian, made once for all machines and kept for later runs.
var debian = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "collectord-tools", "debian-bookworm-2")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), "debian-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(unfinished) // fails once it has its name
	out, err := exec.Command("debootstrap", "--variant=minbase",
		"--include=systemd,systemd-sysv,dbus,adduser,ca-certificates,procps,iproute2,rpm", "bookworm", unfinished).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("debootstrap: %w: %s", err, out)
	}
	if err := os.Chmod(unfinished, 0o755); err != nil {
		return "", err
	}
	return dir, os.Rename(unfinished, dir)
})

// tree is a Debian of the test's own: a layer of memory above the common one.
func tree(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		goWithout(t, "root")
	}
	needs(t, "debootstrap", "systemd-nspawn", "nsenter", "mount")
	base, err := debian()
	if err != nil {
		goWithout(t, "Debian: "+err.Error())
	}
	dir := t.TempDir()
	mount := func(args ...string) {
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			goWithout(t, "overlay mount: "+string(out))
		}
	}
	mount("-t", "tmpfs", "-o", "size=2g,mode=0755", "collectord-test", dir)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	mount("-t", "overlay", "-o", fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", base, dir, dir), "overlay", root)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", root).Run() })
	return root
}

// machine is a booted tree, with a network of its own that has only loopback.
type machine struct {
	t      *testing.T
	root   string
	leader int // its systemd, as seen from here
	http.Client
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
	nspawn := exec.Command("systemd-nspawn", "-D", root, "--boot", "--register=no", "--keep-unit", "--private-network",
		"--console=read-only", "--machine=collectord-"+strconv.Itoa(os.Getpid())+"-"+strings.ToLower(strconv.FormatInt(time.Now().UnixNano()%1e6, 36)))
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
	within(t, "the machine starts", func() bool {
		select {
		case <-ended:
			said, _ := os.ReadFile(console.Name())
			goWithout(t, "machine of its own: "+string(said))
		default:
		}
		m.leader = initBelow(nspawn.Process.Pid)
		return m.leader != 0
	})
	within(t, "the machine is up", func() bool {
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

// initBelow is the child of a process that is the first one of its own PID
// namespace, or 0.
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

// do is try for what must not fail.
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

// unit is a property of the service.
func (m *machine) unit(property string) string {
	m.t.Helper()
	return m.do("systemctl", "show", "--property="+property, "--value", "collectord.service")
}

func (m *machine) pid() int {
	m.t.Helper()
	n, err := strconv.Atoi(m.unit("MainPID"))
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// crash kills the daemon, which is not started again.
func (m *machine) crash() {
	m.t.Helper()
	m.write("/etc/systemd/system/collectord.service.d/crash.conf", "[Service]\nRestart=no\n")
	m.do("systemctl", "daemon-reload")
	m.do("kill", "-9", strconv.Itoa(m.pid()))
	m.awaitState("failed")
}

// awaitState waits until the service is active, failed or whatever is wanted.
func (m *machine) awaitState(want string) {
	m.t.Helper()
	within(m.t, "the service is "+want, func() bool { return m.unit("ActiveState") == want })
}

// inside calls a function on a thread that is in the machine's network.
func (m *machine) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.leader))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.inside(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (m *machine) listen(address string) net.Listener {
	m.t.Helper()
	var ln net.Listener
	if err := m.inside(func() (err error) { ln, err = net.Listen("tcp", address); return err }); err != nil {
		m.t.Fatal(err)
	}
	return ln
}

// post sends a usage and returns its id, or what went wrong.
func (m *machine) post(usage string) (id string, err error) { return m.postTo("127.0.0.1:3000", usage) }

func (m *machine) postTo(address, usage string) (id string, err error) {
	answer, err := m.Post("http://"+address+"/api/usages", "application/json", strings.NewReader(usage))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("%s: %s", answer.Status, body)
	}
	_, rest, _ := bytes.Cut(body, []byte(`{"id":"`))
	found, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return "", errors.New("an answer without an id")
	}
	return string(found), nil
}

// store posts a usage that must be taken.
func (m *machine) store(usage string) string {
	m.t.Helper()
	id, err := m.post(usage)
	if err != nil {
		m.t.Fatal(err)
	}
	return id
}

// ship has everything shipped, and waits until the archive holds these ids.
func (m *machine) ship(ids ...string) {
	m.t.Helper()
	m.do("systemctl", "kill", "--signal=USR1", "collectord.service")
	within(m.t, "the archive holds what was posted", func() bool {
		out, err := m.try("collectord", "cat")
		for _, id := range ids {
			if !strings.Contains(out, id) {
				return false
			}
		}
		return err == nil
	})
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
