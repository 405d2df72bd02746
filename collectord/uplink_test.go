//go:build torture

package main

import (
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

var uplinkScale = flag.Int("uplinkscale", 20, "divides the 10 MB and the minute of stall_timeout of the slow uplink; 1, as in make torture: as they are, 11 minutes")

// TestASlowUplinkShipsAtTheFirstAttempt ships 10 MB over a link of 16 KB/s in both
// directions, with the default timeouts if -uplinkscale is 1.
func TestASlowUplinkShipsAtTheFirstAttempt(t *testing.T) {
	t.Parallel() // the test mostly waits
	needs(t, "ip", "tc")
	const rate = 16_000
	size := 10_000_000 / *uplinkScale
	dir := t.TempDir()
	ours, theirs := newNetwork(t, "edge"), newNetwork(t, "storage")
	must(t, "ip", "link", "add", "cd1", "netns", ours.name, "type", "veth", "peer", "name", "cd1", "netns", theirs.name)
	for i, n := range []network{ours, theirs} {
		n.run("ip", "addr", "add", fmt.Sprintf("10.99.98.%d/24", i+1), "dev", "cd1")
		n.run("ip", "link", "set", "cd1", "up")
		n.run("ip", "link", "set", "lo", "up")
		n.run("tc", "qdisc", "add", "dev", "cd1", "root", "tbf", "rate", fmt.Sprintf("%dbit", 8*rate), "burst", "4kb", "latency", "400ms")
	}
	f, settings := fakeS3(t, dir)
	var puts atomic.Int64
	storage := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/dt=") {
			puts.Add(1)
		}
		f.ServeHTTP(w, r)
	}))
	storage.Listener.Close()
	theirs.inside(func() (err error) {
		storage.Listener, err = net.Listen("tcp", "10.99.98.2:9000")
		return err
	})
	storage.Start()
	t.Cleanup(storage.Close)

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
	noise := rand.NewChaCha8([32]byte{})
	records := 0
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
