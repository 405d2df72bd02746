//go:build packages

package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// imageUser is whom the image runs as: user and group.
const imageUser = "65532"

// podman is one with images, containers, volumes and settings of the test's own.
type podman struct {
	t   *testing.T
	dir string // holds the script podman, and is where commands of the README run
}

func newPodman(t *testing.T) podman {
	t.Helper()
	if os.Geteuid() != 0 {
		goWithout(t, "root")
	}
	needs(t, "podman", "runc", "ip")
	path, err := exec.LookPath("podman")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "collectord-") // podman takes no long path
	if err != nil {
		t.Fatal(err)
	}
	p := podman{t, dir}
	p.write("containers.conf", "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=4096:4096\"]\n", 0o644)
	p.write("podman", fmt.Sprintf("#!/bin/sh\nexport CONTAINERS_CONF=%[1]s/containers.conf\n"+
		"exec %[2]s --root %[1]s/root --runroot %[1]s/run --tmpdir %[1]s/tmp --runtime runc --cgroup-manager cgroupfs --events-backend none \"$@\"\n", p.dir, path), 0o755)
	t.Cleanup(func() {
		for _, args := range [][]string{{"rm", "--all", "--force", "--time", "0", "--volumes"}, {"image", "unmount", "--all", "--force"}} {
			if out, err := p.command(args...).CombinedOutput(); err != nil {
				t.Errorf("podman %v: %v: %s", args, err, out)
			}
		}
		_ = unix.Unmount(filepath.Join(dir, "root", "overlay"), unix.MNT_DETACH) // its mount of where layers are, onto itself
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p podman) write(name, content string, mode fs.FileMode) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), mode); err != nil {
		p.t.Fatal(err)
	}
}

func (p podman) command(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(p.dir, "podman"), args...)
}

// do runs podman, which must not fail, and returns what it printed.
func (p podman) do(args ...string) string {
	p.t.Helper()
	c := p.command(args...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("podman %s: %v: %s", strings.Join(args, " "), err, said.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// shell runs a script as the README shows it, and returns what it printed.
func (p podman) shell(script string, env ...string) string {
	p.t.Helper()
	c := exec.Command("bash", "-ec", script)
	c.Dir = p.dir
	c.Env = append(append(os.Environ(), "PATH="+p.dir+":"+os.Getenv("PATH")), env...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("%s: %v: %s", script, err, said.Bytes())
	}
	return string(out)
}

// build makes the image and returns its id.
func (p podman) build(name, umask string, env ...string) string {
	p.t.Helper()
	c := exec.Command("sh", "-c", `umask "$1" && exec ../image "$2"`, "sh", umask, name)
	c.Env = append(append(os.Environ(), "CONTAINER_ENGINE="+filepath.Join(p.dir, "podman"), "VERSION="+earlier, "SOURCE_DATE_EPOCH=1764000000"), env...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("packaging/image: %v: %s", err, said.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// fromReadme is the only block of sh in the README that holds a word, changed as
// a user would.
func fromReadme(t *testing.T, word string, change ...string) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(m[1], word) {
			found = append(found, m[1])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks with %s in the README", len(found), word)
	}
	for i := 0; i < len(change); i += 2 {
		if !strings.Contains(found[0], change[i]) {
			t.Fatalf("no %s in %s", change[i], found[0])
		}
		found[0] = strings.Replace(found[0], change[i], change[i+1], 1)
	}
	return found[0]
}

func TestImageHoldsTheProgramAndIsTheSameWhoeverBuildsIt(t *testing.T) {
	t.Parallel()
	p := newPodman(t)
	id := p.build("collectord", "022")
	if again := p.build("again", "077"); again != id {
		t.Errorf("built twice it is %s and %s", id, again)
	}
	root := p.do("image", "mount", "collectord")
	var entries []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if children, _ := os.ReadDir(path); !e.IsDir() || len(children) == 0 {
			owner := info.Sys().(*syscall.Stat_t)
			entries = append(entries, fmt.Sprintf("%s %d:%d %s", info.Mode(), owner.Uid, owner.Gid, strings.TrimPrefix(path, root)))
		}
		return nil
	})
	want := []string{
		"-rw-r--r-- 0:0 /etc/ssl/certs/ca-certificates.crt",
		"-rwxr-xr-x 0:0 /usr/bin/collectord",
		"-rw-r--r-- 0:0 /usr/share/licenses/collectord/LICENSE",
		"drwxr-x--- " + imageUser + ":" + imageUser + " /var/lib/collectord",
	}
	if err != nil || !slices.Equal(entries, want) {
		t.Errorf("%v: it holds\n%s", err, strings.Join(entries, "\n"))
	}
	text, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names[c.Subject.CommonName] = true
	}
	if len(names) < 100 || !names["Amazon Root CA 1"] || !names["ISRG Root X1"] {
		t.Errorf("it trusts %v", names)
	}
	t.Logf("%d authorities, %s bytes", len(names), p.do("image", "inspect", "--format", "{{.Size}}", "collectord"))

	if said := p.do("run", "--rm", "--network", "none", "collectord", "version"); !strings.HasPrefix(said, "collectord "+earlier+" ") {
		t.Errorf("version: %s", said)
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	p.build("other", "022", "GOARCH="+other)
	if got := p.do("image", "inspect", "--format", "{{.Architecture}}", "other"); got != other {
		t.Errorf("the image for %s says that it is for %s", other, got)
	}
	program, err := elf.Open(filepath.Join(p.do("image", "mount", "other"), "usr/bin/collectord"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[other]; program.Machine != want {
		t.Errorf("its program is for %v", program.Machine)
	}
}

func TestImageRefusesToListenOpenlyUntilToldSo(t *testing.T) {
	t.Parallel()
	p := newPodman(t)
	p.build("collectord", "022")
	const http, udp = "http.listen (COLLECTORD_HTTP_LISTEN)", "udp.listen (COLLECTORD_UDP_LISTEN)"
	for _, c := range []struct{ told, refused []string }{
		{nil, []string{http, "COLLECTORD_HTTP_TOKENS_FILE", "COLLECTORD_HTTP_ANONYMOUS=true", udp, "COLLECTORD_UDP_ALLOW", "COLLECTORD_UDP_LISTEN=off"}},
		{[]string{"COLLECTORD_HTTP_ANONYMOUS=true"}, []string{udp}},
		{[]string{"COLLECTORD_UDP_LISTEN=off"}, []string{http}},
		{[]string{"COLLECTORD_HTTP_ANONYMOUS=true", "COLLECTORD_UDP_ALLOW=192.0.2.0/24"}, nil},
	} {
		args := []string{"run", "--name", "refused", "--network", "none", "--read-only", "--cap-drop", "all"}
		for _, variable := range c.told {
			args = append(args, "--env", variable)
		}
		if c.refused == nil { // it starts, and is told to stop
			p.do(append(args, "--detach", "collectord")...)
			within(t, "it runs", func() bool {
				out, _ := p.command("logs", "refused").CombinedOutput()
				return strings.Contains(string(out), "collectord is running")
			})
			p.do("stop", "refused")
			if status := p.do("inspect", "--format", "{{.State.ExitCode}}", "refused"); status != "0" {
				t.Errorf("told %v it exits with %s", c.told, status)
			}
		} else {
			said, err := p.command(append(args, "collectord")...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 78 {
				t.Errorf("told %v: %v: %s", c.told, err, said)
			}
			for _, want := range c.refused {
				if !strings.Contains(string(said), want) {
					t.Errorf("told %v it does not name %s: %s", c.told, want, said)
				}
			}
			if len(c.told) > 0 && strings.Contains(string(said), map[string]string{http: udp, udp: http}[c.refused[0]]) {
				t.Errorf("told %v it names what is settled: %s", c.told, said)
			}
		}
		p.do("rm", "--volumes", "refused")
	}
}

// wire is a network of a container's own, with a cable to that of the host.
type wire struct{ namespace, here, there, there6 string }

func newWire(t *testing.T) wire {
	t.Helper()
	pid := os.Getpid()
	name := fmt.Sprintf("cdi-%d", pid)
	subnet := fmt.Sprintf("198.18.%d.%d", pid>>6&0xff, pid<<2&0xff) // RFC 2544, section C.2.2
	ip := net.ParseIP(subnet).To4()
	w := wire{"/run/netns/" + name, fmt.Sprintf("%s.%d", subnet[:strings.LastIndex(subnet, ".")], ip[3]+1), fmt.Sprintf("%s.%d", subnet[:strings.LastIndex(subnet, ".")], ip[3]+2), fmt.Sprintf("fd98:%x::2", pid&0xffff)}
	must(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	must(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() })
	must(t, "ip", "addr", "add", w.here+"/30", "dev", name)
	must(t, "ip", "addr", "add", fmt.Sprintf("fd98:%x::1/64", pid&0xffff), "dev", name, "nodad")
	must(t, "ip", "link", "set", name, "up")
	must(t, "ip", "-n", name, "addr", "add", w.there+"/30", "dev", "eth0")
	must(t, "ip", "-n", name, "addr", "add", w.there6+"/64", "dev", "eth0", "nodad")
	must(t, "ip", "-n", name, "link", "set", "eth0", "up")
	must(t, "ip", "-n", name, "link", "set", "lo", "up")
	return w
}

// storage is a MinIO outside any container, with TLS; authority is the file that
// says whom to trust.
func storage(t *testing.T, ip string) (endpoint, authority string) {
	t.Helper()
	minio := os.Getenv("TEST_MINIO")
	if minio == "" {
		t.Fatal("TEST_MINIO names no program: run make package-test")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.ParseIP(ip)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	authority = filepath.Join(dir, "certs", "public.crt")
	err = errors.Join(
		os.MkdirAll(filepath.Join(dir, "data", "usages"), 0o755), os.Mkdir(filepath.Join(dir, "certs"), 0o755),
		os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o644),
		os.WriteFile(filepath.Join(dir, "certs", "private.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(minio, "server", "--quiet", "--address", ip+":9000", "--certs-dir", filepath.Join(dir, "certs"), filepath.Join(dir, "data"))
	c.Env = append(os.Environ(), "MINIO_ROOT_USER=operator", "MINIO_ROOT_PASSWORD=not-a-secret", "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	within(t, "the storage listens", func() bool {
		conn, err := net.Dial("tcp", ip+":9000")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "https://" + ip + ":9000", authority
}

// container is one that runs as the README shows it.
type container struct {
	podman
	wire
	token  string
	client http.Client
}

func (c *container) pid() int {
	c.t.Helper()
	n, err := strconv.Atoi(c.do("inspect", "--format", "{{.State.Pid}}", "collectord"))
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *container) ready() bool {
	answer, err := c.client.Get("http://" + c.there + ":3001/readyz")
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// metric is the value of a metric with these labels.
func (c *container) metric(name string) float64 {
	c.t.Helper()
	answer, err := c.client.Get("http://" + c.there + ":3001/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
	if err != nil || found == nil {
		c.t.Fatalf("no %s: %v", name, err)
	}
	value, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return value
}

// post returns the id of a usage, or what went wrong.
func (c *container) post(host, usage string) (id string, err error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+net.JoinHostPort(host, "3000")+"/api/usages", strings.NewReader(usage))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := c.client.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	if err != nil {
		return "", err
	}
	var stored struct{ ID string }
	return stored.ID, json.Unmarshal(body, &stored)
}

// confined checks what the kernel says of the daemon.
func (c *container) confined() {
	c.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", c.pid())
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		c.t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		got[name] = strings.Join(strings.Fields(value), " ")
	}
	user := strings.TrimSuffix(strings.Repeat(imageUser+" ", 4), " ")
	for name, want := range map[string]string{
		"Name": "collectord", "Uid": user, "Gid": user, "NoNewPrivs": "1", "Seccomp": "2", "CapInh": "0000000000000000",
		"CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
	} {
		if got[name] != want {
			c.t.Errorf("%s of the daemon is %s, want %s", name, got[name], want)
		}
	}
	mounts, err := os.ReadFile(proc + "mountinfo")
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line) // proc(5): the fifth is where, the sixth how
		where, how := fields[4], strings.Split(fields[5], ",")
		kernel := regexp.MustCompile(`^/(proc|sys|dev)(/|$)`).MatchString(where)
		if !kernel && slices.Contains(how, "rw") != (where == "/var/lib/collectord") {
			c.t.Errorf("it is mounted otherwise than it should be: %s", line)
		}
	}
	volume, err := os.Stat(c.do("volume", "inspect", "--format", "{{.Mountpoint}}", "collectord"))
	if err != nil {
		c.t.Fatal(err)
	}
	if owner := volume.Sys().(*syscall.Stat_t); volume.Mode().Perm() != 0o750 || fmt.Sprintf("%d %d", owner.Uid, owner.Gid) != imageUser+" "+imageUser {
		c.t.Errorf("the volume has mode %v and is of %d:%d", volume.Mode(), owner.Uid, owner.Gid)
	}
	if got := c.do("inspect", "--format", "{{.OCIRuntime}}", "collectord"); got != "runc" {
		c.t.Errorf("it runs with %s", got)
	}
}

func TestImageKilledUnderLoadLosesNothingAcknowledged(t *testing.T) {
	p := newPodman(t)
	p.build("collectord", "022")
	w := newWire(t)
	endpoint, authority := storage(t, w.here)

	// What the README shows, with the addresses of this test. The authority takes
	// the place of the image's own ones, which proves where those are looked for.
	p.shell(fromReadme(t, "podman run --rm"))
	command := fromReadme(t, "podman run --detach",
		"--publish 3000:3000/tcp --publish 3000:3000/udp --publish 127.0.0.1:3001:3001/tcp",
		"--network ns:"+w.namespace+" --read-only-tmpfs=false --volume "+authority+":/etc/ssl/certs/ca-certificates.crt:ro",
		"COLLECTORD_UDP_ALLOW=10.0.0.0/8", "COLLECTORD_UDP_ALLOW="+w.here+"/32", "https://minio.example:9000", endpoint)
	keys := []string{"AWS_ACCESS_KEY_ID=operator", "AWS_SECRET_ACCESS_KEY=not-a-secret"}
	token, err := os.ReadFile(filepath.Join(p.dir, "ward-3"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(token), "\n")
	c := &container{podman: p, wire: w, token: first, client: http.Client{Timeout: 30 * time.Second}}
	t.Cleanup(c.client.CloseIdleConnections)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := c.command("logs", "--tail", "40", "collectord").CombinedOutput()
			t.Logf("what the container said:\n%s", out)
		}
	})
	c.shell(command, keys...)
	within(t, "it is ready", c.ready)
	c.confined()

	stranger := *c
	stranger.token = "cd_" + strings.Repeat("A", 43)
	if _, err := stranger.post(c.there, `{}`); err == nil || !strings.Contains(err.Error(), "unauthorized") {
		t.Errorf("a stranger is told: %v", err)
	}

	// Datagrams that were committed before any kill are as safe as what was answered.
	const datagrams = 100
	conn, err := net.Dial("udp", c.there+":3000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range datagrams {
		if _, err := fmt.Fprintf(conn, `{"datagram":%d}`, i); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "the datagrams are in the log", func() bool { return c.metric(`collectord_usages_appended_total{source="udp"}`) == datagrams })

	var (
		mu       sync.Mutex // guards stored
		stored   []string
		attempts atomic.Int64
		clients  sync.WaitGroup
		stop     = make(chan struct{})
	)
	if id, err := c.post(c.there6, `{"over":"IPv6"}`); err != nil {
		t.Error(err)
	} else {
		stored = append(stored, id)
	}
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				id, err := c.post(c.there, fmt.Sprintf(`{"patientId":"%d"}`, attempts.Add(1)))
				if err == nil {
					mu.Lock()
					stored = append(stored, id)
					mu.Unlock()
				}
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(stored) }
	for range *restarts {
		was := count()
		within(t, "usages are stored", func() bool { return count() > was+200 })
		old := c.pid()
		if err := unix.Kill(old, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		within(t, "it is restarted", func() bool { pid := c.pid(); return pid != 0 && pid != old && c.ready() })
	}
	was := count()
	within(t, "usages are stored after the last kill", func() bool { return count() > was+200 })
	began := time.Now()
	c.do("stop", "collectord") // also under load
	took := time.Since(began)
	close(stop)
	clients.Wait()
	if status := c.do("inspect", "--format", "{{.State.ExitCode}}", "collectord"); status != "0" || took > 25*time.Second {
		t.Errorf("stopped, after %v, it exits with %s", took, status)
	}

	// What is in the bucket then, read by the image.
	read := func(args string) string {
		return c.shell(strings.NewReplacer("--detach", "--rm", "--name collectord --restart unless-stopped", "").Replace(strings.TrimSpace(command))+" "+args, keys...)
	}
	there, fromDatagrams := map[string]int{}, 0
	for line := range strings.Lines(read("cat")) {
		var r struct {
			ID, Via, Client string
			Usage           struct{ Datagram *int }
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		there[r.ID]++
		if r.Via == "udp" && r.Usage.Datagram != nil {
			fromDatagrams++
		} else if r.Client != "ward-3" {
			t.Errorf("the client of a usage is %q", r.Client)
		}
	}
	for _, id := range stored {
		if there[id] != 1 {
			t.Errorf("%s was answered 201 and is there %d times", id, there[id])
		}
	}
	if fromDatagrams != datagrams {
		t.Errorf("%d of %d datagrams are there", fromDatagrams, datagrams)
	}
	if left := read("ship"); !strings.Contains(left, "shipped 0 records") {
		t.Errorf("ship: %s", left)
	}
	t.Logf("%d kills: %d requests, %d answered 201, all of them in the bucket once, and %d more; stopped within %v", *restarts, attempts.Load()+1, len(stored), len(there)-len(stored)-fromDatagrams, took.Round(time.Millisecond))
	t.Logf("audit: %s", read("audit --from-start"))

	// Started again it heeds a token that is taken away, as the README says.
	c.do("start", "collectord")
	within(t, "it is ready again", c.ready)
	if _, err := c.post(c.there, `{}`); err != nil {
		t.Error(err)
	}
	c.shell("echo '# nobody' > secrets/new && mv secrets/new secrets/tokens && podman kill --signal HUP collectord")
	within(t, "the token is refused", func() bool {
		_, err := c.post(c.there, `{}`)
		return err != nil && strings.Contains(err.Error(), "unauthorized")
	})
}
