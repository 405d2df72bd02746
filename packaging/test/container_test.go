//go:build packages

package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
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

// container is a container started as in docs/deploy.md.
type container struct {
	podman
	testNetwork
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

// metric returns the value of a metric with these labels.
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

// post sends a usage and returns its id or an error.
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

// checkConfinement checks the kernel's view of the daemon: ids, capabilities and mounts.
func (c *container) checkConfinement() {
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
		fields := strings.Fields(line) // proc(5): field 5 is the mount point, field 6 has the options
		point, options := fields[4], strings.Split(fields[5], ",")
		kernel := regexp.MustCompile(`^/(proc|sys|dev)(/|$)`).MatchString(point)
		if !kernel && slices.Contains(options, "rw") != (point == "/var/lib/collectord") {
			c.t.Errorf("unexpected mount: %s", line)
		}
	}
	volume, err := os.Stat(c.do("volume", "inspect", "--format", "{{.Mountpoint}}", "collectord"))
	if err != nil {
		c.t.Fatal(err)
	}
	if owner := volume.Sys().(*syscall.Stat_t); volume.Mode().Perm() != 0o750 || fmt.Sprintf("%d %d", owner.Uid, owner.Gid) != imageUser+" "+imageUser {
		c.t.Errorf("the volume has mode %v and belongs to %d:%d", volume.Mode(), owner.Uid, owner.Gid)
	}
	if got := c.do("inspect", "--format", "{{.OCIRuntime}}", "collectord"); got != "runc" {
		c.t.Errorf("the container runs with %s", got)
	}
}

func TestImageKilledUnderLoadLosesNothingAcknowledged(t *testing.T) {
	p := newPodman(t)
	p.build("collectord", "022")
	w := newTestNetwork(t)
	endpoint, authority := startMinIO(t, w.here)

	// These are the commands of docs/deploy.md, with the addresses of this test. The file with
	// the test's authority replaces that of the image, so the daemon must read that file.
	p.shell(deployBlock(t, "podman run --rm"))
	command := deployBlock(t, "podman run --detach",
		"--publish 3000:3000/tcp --publish 3000:3000/udp --publish 127.0.0.1:3001:3001/tcp",
		"--network ns:"+w.namespace+" --read-only-tmpfs=false --volume "+authority+":/etc/ssl/certs/ca-certificates.crt:ro",
		"COLLECTORD_UDP_ALLOW=10.0.0.0/8", "COLLECTORD_UDP_ALLOW="+w.here+"/32 --env COLLECTORD_SHIPPER_KEEP=0s", "https://minio.example:9000", endpoint)
	keys := []string{"AWS_ACCESS_KEY_ID=operator", "AWS_SECRET_ACCESS_KEY=not-a-secret"}
	token, err := os.ReadFile(filepath.Join(p.dir, "ward-3"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(token), "\n")
	c := &container{podman: p, testNetwork: w, token: first, client: http.Client{Timeout: 30 * time.Second}}
	t.Cleanup(c.client.CloseIdleConnections)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := c.command("logs", "--tail", "40", "collectord").CombinedOutput()
			t.Logf("the container's log:\n%s", out)
		}
	})
	c.shell(command, keys...)
	waitUntil(t, "the daemon is ready", c.ready)
	c.checkConfinement()

	stranger := *c
	stranger.token = "cd_" + strings.Repeat("A", 43)
	if _, err := stranger.post(c.there, `{}`); err == nil || !strings.Contains(err.Error(), "unauthorized") {
		t.Errorf("a client without a token gets: %v", err)
	}

	// Datagrams that were committed before any kill are as safe as acknowledged usages.
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
	waitUntil(t, "the datagrams are in the log", func() bool { return c.metric(`collectord_usages_appended_total{source="udp"}`) == datagrams })

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
		waitUntil(t, "usages are stored", func() bool { return count() > was+200 })
		old := c.pid()
		if err := unix.Kill(old, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the daemon is restarted", func() bool { pid := c.pid(); return pid != 0 && pid != old && c.ready() })
	}
	was := count()
	waitUntil(t, "usages are stored after the last kill", func() bool { return count() > was+200 })
	began := time.Now()
	c.do("stop", "collectord") // also under load
	took := time.Since(began)
	close(stop)
	clients.Wait()
	if status := c.do("inspect", "--format", "{{.State.ExitCode}}", "collectord"); status != "0" || took > 25*time.Second {
		t.Errorf("after a stop of %v the container exits with %s", took, status)
	}

	// The program in the image reads the bucket.
	read := func(args string) string {
		return c.shell(strings.Replace(strings.TrimSpace(command), "--detach --name collectord --restart unless-stopped", "--rm", 1)+" "+args, keys...)
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
			t.Errorf("%s was acknowledged and is stored %d times", id, there[id])
		}
	}
	if fromDatagrams != datagrams {
		t.Errorf("%d of %d datagrams are stored", fromDatagrams, datagrams)
	}
	if left := read("ship"); !strings.Contains(left, "shipped 0 records") {
		t.Errorf("ship: %s", left)
	}
	t.Logf("%d kills: %d requests, %d answered 201, all of them in the bucket once, and %d more; stopped within %v", *restarts, attempts.Load()+1, len(stored), len(there)-len(stored)-fromDatagrams, took.Round(time.Millisecond))
	t.Logf("audit: %s", read("audit --from-start"))

	// After a restart a token can be removed, as in docs/deploy.md.
	c.do("start", "collectord")
	waitUntil(t, "the daemon is ready again", c.ready)
	if _, err := c.post(c.there, `{}`); err != nil {
		t.Error(err)
	}
	c.shell("echo '# nobody' > secrets/new && mv secrets/new secrets/tokens && podman kill --signal HUP collectord")
	waitUntil(t, "the token is refused", func() bool {
		_, err := c.post(c.there, `{}`)
		return err != nil && strings.Contains(err.Error(), "unauthorized")
	})
}
