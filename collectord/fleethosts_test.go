//go:build torture

package main

import (
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// TestFleetOfFiveHundredHostsOnMinIO measures the table and the page of 500 hosts with 40
// devices each.
func TestFleetOfFiveHundredHostsOnMinIO(t *testing.T) {
	const hosts, promised = 500, 2 * time.Second
	dir := t.TempDir()
	settings := startMinIO(t, dir)
	config, _, _ := configure(t, dir, "shipper:\n  "+settings+"\n")
	store := openURL(t, "s3://usages/prod", bucket.S3Options{
		Endpoint: regexp.MustCompile(`http://[0-9.:]+`).FindString(settings), Region: "us-east-1", PathStyle: "on", CredentialsFile: dir + "/credentials",
	})
	until(t, "MinIO takes objects", func() bool { // MinIO reports that it is ready slightly too early
		o, err := bucket.NewHeartbeat(bucket.Key{Node: "edge-0", LogID: 1 << 32, Run: 1}, bucket.Heartbeat{ConfirmedBelow: 1, At: time.Now()})
		return err == nil && store.Put(t.Context(), o) == nil
	})
	for i := range hosts {
		var clients []bucket.Client
		for device := range 40 {
			clients = append(clients, clientSeen(fmt.Sprintf("ward-%d-inhaler-%d", i, device), time.Hour))
		}
		h := bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, NextSeconds: 3900, DayUsages: 5000, DaySeconds: 24 * 3600, ClientsKnown: 40, Clients: clients}
		if i == 7 {
			h.Trouble = []bucket.Trouble{{Name: "shipping", Message: "AccessDenied"}}
		}
		putHeartbeat(t, store, fmt.Sprint("edge-", i), uint64(i+1), 0, h)
	}
	if _, err := binary(); err != nil { // the first build takes long
		t.Fatal(err)
	}
	var took []time.Duration
	for range 5 {
		began := time.Now()
		lines, stderr, status := runFleet(t, config, "--html", filepath.Join(dir, "fleet.html"))
		took = append(took, time.Since(began))
		if status != 2 || !strings.Contains(stderr, "the fleet is not right: 1 host in trouble") || !strings.HasSuffix(lines[len(lines)-1], ": 500 nodes, 500 heartbeats") {
			t.Fatalf("%d: %s", status, stderr)
		}
	}
	slices.Sort(took)
	t.Logf("fleet of %d hosts on MinIO took %v, the median of %v; on two idle cores %v are promised", hosts, took[2], took, promised)
}

var hostileHosts = flag.Int("hostile-hosts", 20_000, "heartbeats of strangers that fleet reads")

// TestFleetOfHostileHeartbeats checks that memory is bounded. Each heartbeat has the maximum
// size that fleet accepts, and different clients.
func TestFleetOfHostileHeartbeats(t *testing.T) {
	hosts := *hostileHosts
	limitMiB := 64 + hosts*12/1000 // MiB
	dir := t.TempDir()
	f, where := fakeS3(t, dir)
	config, _, _ := configure(t, dir, "shipper:\n  "+where+"\n")
	trouble := strings.Repeat(fmt.Sprintf(`,{"name":"%s","since":"9999-01-01T00:00:00Z","message":"%s"}`, strings.Repeat("n", 63), strings.Repeat("<", 200)), 10)[1:]
	for i := range hosts {
		f.Put("prod/"+bucket.Key{Node: fmt.Sprint("edge-", i), LogID: uint64(i + 1)}.HeartbeatKey(), []byte("{}"))
	}
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		_, name, ok := strings.Cut(r.URL.Path, "/"+bucket.HeartbeatPrefix)
		k, known := bucket.ParseHeartbeatKey(bucket.HeartbeatPrefix + name)
		if r.Method != http.MethodGet || !ok || !known {
			return false
		}
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"x"`)
		fmt.Fprintf(w, `{"format":1,"node":%q,"log_id":%q,"run":"0000000000000001","version":%q,"confirmed_below":1,"at":%q,"run_seconds":1000000000000,"next_seconds":9000000000000000000,"trouble":[%s],"clients_known":50,"clients":[`,
			k.Node, bucket.HexID(k.LogID), strings.Repeat("v", 200), time.Now().UTC().Format(time.RFC3339), trouble)
		for i := range 50 {
			fmt.Fprintf(w, `%s{"name":"%s-%d","last_seen":"0001-01-01T00:00:00Z"}`, strings.Repeat(",", min(i, 1)), k.Node, i)
		}
		fmt.Fprint(w, `]}`)
		return true
	}})
	cmd := command(t, "fleet", "--config", config, "--json", "--html", filepath.Join(dir, "fleet.html"))
	lines := outputMeter{pid: func() int { return cmd.Process.Pid }}
	cmd.Stdout = &lines
	began := time.Now()
	_ = cmd.Run() // its status is checked below
	t.Logf("fleet of %d hostile heartbeats took %d MiB and %v", hosts, lines.peakMiB, time.Since(began))
	if status := cmd.ProcessState.ExitCode(); status != 2 || lines.lines != hosts+1 || lines.peakMiB == 0 || lines.peakMiB > limitMiB {
		t.Errorf("fleet exits with %d after %d lines, and took %d MiB", status, lines.lines, lines.peakMiB)
	}
}
