//go:build torture

package main

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/wal"
)

var uplinkScale = flag.Int("uplinkscale", 20, "divides the 10 MB and the minute of stall_timeout of the slow uplink; make torture sets 1, which takes 11 minutes")

// slowLine connects two namespaces. rate is in bytes a second, in each direction. theirs has
// the address 10.99.98.2.
func slowLine(t *testing.T, name string, rate int) (ours, theirs network) {
	t.Helper()
	ours, theirs = newNetwork(t, name+"-edge"), newNetwork(t, name+"-storage")
	mustExec(t, "ip", "link", "add", "cd1", "netns", ours.name, "type", "veth", "peer", "name", "cd1", "netns", theirs.name)
	for i, n := range []network{ours, theirs} {
		n.run("ip", "addr", "add", fmt.Sprintf("10.99.98.%d/24", i+1), "dev", "cd1")
		n.run("ip", "link", "set", "cd1", "up")
		n.run("ip", "link", "set", "lo", "up")
		n.run("tc", "qdisc", "add", "dev", "cd1", "root", "tbf", "rate", fmt.Sprintf("%dbit", 8*rate), "burst", "4kb", "latency", "400ms")
	}
	return ours, theirs
}

// startIn starts a storage in the second namespace of a slow line.
func startIn(theirs network, storage *httptest.Server) {
	storage.Listener.Close()
	theirs.inside(func() (err error) {
		storage.Listener, err = net.Listen("tcp", "10.99.98.2:9000")
		return err
	})
	storage.Start()
	theirs.t.Cleanup(storage.Close)
}

// appendNoise appends usages to a log until their objects will have size bytes, and closes the
// log.
func appendNoise(t *testing.T, log *wal.Log, size int) (records int) {
	t.Helper()
	noise := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8)})
	for written := 0; written < size; written += 750 { // zstd compresses base64 by a quarter
		raw := make([]byte, 750)
		noise.Read(raw)
		if err := log.Append(t.Context(), wal.Record{Usage: fmt.Appendf(nil, `{"noise":%q}`, base64.StdEncoding.EncodeToString(raw))}); err != nil {
			t.Fatal(err)
		}
		records++
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return records
}

// TestASlowUplinkShipsAtTheFirstAttempt ships 10 MB over a link of 16 KB/s in
// both directions, with the default timeouts if -uplinkscale is 1.
func TestASlowUplinkShipsAtTheFirstAttempt(t *testing.T) {
	t.Parallel() // the test mostly waits
	requirePrograms(t, "ip", "tc")
	const rate = 16_000
	size := 10_000_000 / *uplinkScale
	dir := t.TempDir()
	ours, theirs := slowLine(t, "ship", rate)
	f, settings := fakeS3(t, dir)
	var puts atomic.Int64
	storage := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/dt=") {
			puts.Add(1)
		}
		f.ServeHTTP(w, r)
	}))
	startIn(theirs, storage)
	config := filepath.Join(dir, "collectord.yaml")
	timeouts := "" // the defaults
	if *uplinkScale != 1 {
		timeouts = fmt.Sprintf("stall_timeout: %v\n  ", time.Minute/time.Duration(*uplinkScale))
	}
	text := fmt.Sprintf("node: edge-1\ndata_dir: %s/data\nlog: {format: text}\nwal: {min_free: 0}\nshipper:\n  %s%s\n",
		dir, timeouts, strings.Replace(settings, f.URL, storage.URL, 1))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := wal.Open(filepath.Join(dir, "data"), wal.Options{Node: "edge-1", SegmentSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	records := appendNoise(t, log, size)
	ship := command(t, "ship", "--config", config)
	began := time.Now()
	out, err := exec.Command("ip", append([]string{"netns", "exec", ours.name}, ship.Args...)...).CombinedOutput()
	took, stored := time.Since(began), 0
	for key, o := range f.Objects() {
		if strings.Contains(key, "/dt=") {
			stored += len(o.Body)
		}
	}
	t.Logf("%d records, %d bytes in %d PUTs, %v at %d bytes a second:\n%s", records, stored, puts.Load(), took.Round(time.Second), rate, out)
	if err != nil || puts.Load() != 1 || stored < size || took < time.Duration(size/rate)*time.Second*9/10 {
		t.Errorf("not shipped at the first attempt: %v", err)
	}
}

// TestASlowUplinkIsNoTrickle reads objects through a link of 16 KB/s, several at a time.
func TestASlowUplinkIsNoTrickle(t *testing.T) {
	t.Parallel() // the test mostly waits
	requirePrograms(t, "ip", "tc")
	const rate, objects, size = 16_000, 6, 200_000
	dir := t.TempDir()
	ours, theirs := slowLine(t, "read", rate)
	f, settings := fakeS3(t, dir)
	far := httptest.NewUnstartedServer(f)
	startIn(theirs, far)
	config, records := filepath.Join(dir, "collectord.yaml"), 0
	text := fmt.Sprintf("node: edge-1\ndata_dir: %s/data\nwal: {min_free: 0}\nshipper:\n  %s\n", dir, settings)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range objects {
		log, err := wal.Open(filepath.Join(dir, "data"), wal.Options{Node: "edge-1", SegmentSize: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		records += appendNoise(t, log, size+i)
		if _, stderr, status := runCollectord(t, "ship", "--config", config); status != 0 {
			t.Fatal(stderr)
		}
	}
	if err := os.WriteFile(config, []byte(strings.Replace(text, f.URL, far.URL, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want func(out string) bool
	}{
		"audit": {[]string{"audit", "--deep", "--from-start", "--at-once", "4"}, func(string) bool { return true }},
		"cat":   {[]string{"cat"}, func(out string) bool { return strings.Count(out, "\n") == records }},
	} {
		read := command(t, append(c.args, "--config", config)...)
		began := time.Now()
		var stderr bytes.Buffer
		read = exec.Command("ip", append([]string{"netns", "exec", ours.name}, read.Args...)...)
		read.Stderr = &stderr
		out, err := read.Output()
		took := time.Since(began)
		t.Logf("%s: %d objects of %d bytes in %v", name, objects, size, took.Round(time.Second))
		if err != nil || !c.want(string(out)) || took < objects*size/rate*time.Second*9/10 {
			t.Errorf("%s: %v after %v: %s", name, err, took, stderr.String())
		}
	}
}
