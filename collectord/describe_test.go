package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"collectord/collectord/admin"
	"collectord/collectord/auth"
	"collectord/shipper/bucket"
)

// TestAHeartbeatNamesWhatFailsOnTheHost also checks what a heartbeat leaves out: troubles
// that only clients cause, and those that its other fields show.
func TestAHeartbeatNamesWhatFailsOnTheHost(t *testing.T) {
	at := time.Unix(1_795_000_000, 0)
	var h bucket.Heartbeat
	describeHost(&h, []admin.Trouble{
		{Name: "heartbeat", Verdict: admin.Warning},
		{Name: "clone", Verdict: admin.Warning},
		{Name: "unauthorized", Verdict: admin.Fine},
		{Name: "shipping", Verdict: admin.Warning, Message: "can't ship", Error: "AccessDenied", Since: at},
		{Name: "clock", Verdict: admin.Failing, Message: "the clock is behind", Since: at},
	}, auth.ClientCounts{Clients: []auth.Client{{Name: "never"}, {Name: "ward-3", LastSeen: at, Usages: 7}}})
	var got []string
	for _, t := range h.Trouble {
		got = append(got, fmt.Sprintf("%s %v %s", t.Name, t.Since.Equal(at), t.Message))
	}
	for _, c := range h.Clients {
		got = append(got, fmt.Sprintf("%s %d %v", c.Name, c.Usages, c.LastSeen != nil && c.LastSeen.Equal(at)))
	}
	if got, want := strings.Join(got, ", "), "shipping true can't ship: AccessDenied, clock true the clock is behind, ward-3 7 true, never 0 false"; got != want || h.ClientsKnown != 2 {
		t.Errorf("with %d clients: %s, want %s", h.ClientsKnown, got, want)
	}
}

// TestASilentDeviceIsSeenInStatusAndHeartbeat has one client that sends and one that does
// not. Both appear in the metrics, in status and in fleet, also after a reload.
func TestASilentDeviceIsSeenInStatusAndHeartbeat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, adminPort := configure(t, dir, "shipper: {heartbeat: 50ms}\n")
	token, line := newToken(t, "ward-3")
	_, other := newToken(t, "ward-4")
	write(t, dir+"/token", token)
	write(t, dir+"/tokens", line+"\n"+other+"\n")
	replaceInFile(t, config, "http: {", "http: {tokens_file: "+dir+"/tokens, ")
	d := start(t, config, port, adminPort)
	if _, stderr, status := runCollectord(t, "send", d.url(), "--count", "3", "--token-file", dir+"/token"); status != 0 {
		t.Fatal(stderr)
	}
	until(t, "the metrics count the client", func() bool { return d.metrics()[`collectord_client_usages_total{client="ward-3"}`] == 3 })
	m := d.metrics()
	if m[`collectord_client_last_seen_timestamp_seconds{client="ward-4"}`] != 0 || m[`collectord_client_last_seen_timestamp_seconds{client="ward-3"}`] == 0 || m["collectord_clients"] != 2 {
		t.Errorf("%v", m)
	}
	out, stderr, _ := runCollectord(t, "status", "--config", config)
	if !regexp.MustCompile(`(?m)^clients +ward-3, 3 usages, last .*\n +ward-4, 0 usages, never since the start$`).MatchString(out) {
		t.Errorf("%s%s", out, stderr)
	}
	until(t, "the heartbeat shows both", func() bool {
		names := fmt.Sprint(heartbeatClients(t, dir))
		return strings.Contains(names, "ward-3 3 true") && strings.Contains(names, "ward-4 0 false")
	})
	_, third := newToken(t, "ward-5")
	write(t, dir+"/tokens", line+"\n"+third+"\n")
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the heartbeat shows the reload", func() bool {
		names := fmt.Sprint(heartbeatClients(t, dir))
		return strings.Contains(names, "ward-3 3 true") && strings.Contains(names, "ward-5 0 false") && !strings.Contains(names, "ward-4")
	})
	d.stop()
}

// heartbeatClients returns the clients in the only heartbeat of the archive.
func heartbeatClients(t *testing.T, dir string) (clients []string) {
	t.Helper()
	folder := dir + "/data/archive/" + bucket.HeartbeatPrefix
	names, _ := os.ReadDir(folder) // the folder does not exist at first
	store := openURL(t, "file://"+dir+"/data/archive", bucket.S3Options{})
	for _, n := range names {
		if k, ok := bucket.ParseHeartbeatKey(bucket.HeartbeatPrefix + n.Name()); ok {
			h, err := bucket.ReadHeartbeat(t.Context(), store, k)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range h.Clients {
				clients = append(clients, fmt.Sprintf("%s %d %v", c.Name, c.Usages, c.LastSeen != nil))
			}
		}
	}
	return clients
}
