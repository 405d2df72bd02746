package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"collectord/shipper/audit"
	"collectord/shipper/bucket"
)

// configureFolder returns the configuration of a host whose archive is a folder, and the
// folder.
func configureFolder(t *testing.T) (dir, config string, archive bucket.Store) {
	t.Helper()
	dir = t.TempDir()
	config, _, _ = configure(t, dir, "shipper: {destination: 'file://"+dir+"/archive'}\n")
	return dir, config, openURL(t, "file://"+dir+"/archive", bucket.S3Options{})
}

// clientSeen returns a client that was last seen that long before the heartbeat.
func clientSeen(name string, before time.Duration) bucket.Client {
	at := time.Now().Add(-before)
	return bucket.Client{Name: name, LastSeen: &at, Usages: 7}
}

// TestFleetNamesSilentDevices checks the text, the JSON and the page, with and without
// --device-silent-for.
func TestFleetNamesSilentDevices(t *testing.T) {
	t.Parallel()
	dir, config, archive := configureFolder(t)
	clients := []bucket.Client{clientSeen("pump-1", time.Minute), clientSeen("pump-2", 10*24*time.Hour+30*time.Minute), {Name: "spare"}}
	for i := range 7 {
		clients = append(clients, clientSeen(fmt.Sprint("pump-3", i), 5*24*time.Hour+30*time.Minute))
	}
	putHeartbeat(t, archive, "edge-1", 1, 0, bucket.Heartbeat{ClientsKnown: 40, Clients: clients, RunSeconds: 9*24*3600 + 1800, DayUsages: 250, DaySeconds: 4*3600 + 60})
	putHeartbeat(t, archive, "edge-2", 2, 0, bucket.Heartbeat{ClientsKnown: 1, Clients: clients[:1], DayUsages: 100, DaySeconds: 25 * 3600})
	page := filepath.Join(dir, "fleet.html")
	lines, stderr, status := runFleet(t, config, "--html", page)
	if status != 2 || stderr != "collectord: the fleet is not right: 1 host with silent devices\n" || lines[0] != "NOT RIGHT: 1 host with silent devices" {
		t.Errorf("%d: %s %q", status, stderr, lines)
	}
	for i, want := range []string{
		`^device edge-1 00000001 1\.2\.3 \d+s 0 - 250 in 4h01m 9 of 40 silent - 3 GiB silent devices: pump-2 \(for 10d00h\), spare \(never seen in 9d00h\), pump-30 \(for 5d00h\), pump-31 \(for 5d00h\), pump-32 \(for 5d00h\), 4 more$`,
		`^fine edge-2 00000002 1\.2\.3 \d+s 0 - 96 1 - 3 GiB -$`,
	} {
		if !regexp.MustCompile(want).MatchString(lines[3+i]) {
			t.Errorf("%q does not match %s", lines[3+i], want)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(text), "<summary>9 silent</summary>") || !strings.Contains(string(text), "<li>pump-36 for 5d00h</li>") || strings.Contains(string(text), "pump-1 ") {
		t.Errorf("%v: %s", err, text)
	}
	lines, _, _ = runFleet(t, config, "--json")
	var h audit.Host
	if err := json.Unmarshal([]byte(lines[0]), &h); err != nil || h.State != audit.SilentDevice || len(h.SilentDevices) != 9 || h.SilentDevices[1].Name != "spare" ||
		h.SilentDevices[1].LastSeen != nil || h.SilentDevices[0].SilentSeconds < 10*24*3600 || strings.Contains(lines[0], "pump-1") {
		t.Errorf("%v: %s", err, lines[0])
	}
	for wait, want := range map[string]int{"216h": 2, "239h": 2, "241h": 0, "0": 0} {
		if lines, _, status := runFleet(t, config, "--device-silent-for", wait); status != want {
			t.Errorf("--device-silent-for %s exits with %d: %q", wait, status, lines)
		}
	}
}

// TestTheFleetPageContainsOnlyItsOwnMarkup covers all texts that strangers choose: names,
// versions, troubles and devices.
func TestTheFleetPageContainsOnlyItsOwnMarkup(t *testing.T) {
	t.Parallel()
	const evil = `"><script>alert(1)</script><img src=//x onerror='x'>&lt;b&gt;` + "\x1b\u202e\n"
	h := &audit.Host{
		State: audit.Trouble, Wrong: []audit.Kind{audit.Trouble}, Node: evil, LogID: evil, Key: evil, Reason: evil, Destination: evil,
		SilentDevices: []audit.Device{{Name: evil}},
		Heartbeat:     &bucket.Heartbeat{Version: evil, Trouble: []bucket.Trouble{{Name: evil, Message: evil}}},
	}
	p := fleetReport{
		Fleet: &audit.Fleet{Hosts: []*audit.Host{h, h}, Count: map[audit.Kind]int{audit.Trouble: 1}}, destination: evil, destinations: 2, audited: true,
		unused: []audit.Acceptance{{LogID: evil}},
	}
	path := filepath.Join(t.TempDir(), "fleet.html")
	for _, v := range []*fleetPage{p.page(time.Now()), errorPage(fmt.Errorf("%s", evil), time.Now())} {
		if err := writeFleetPage(path, v); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := terminalHazard(string(page)); err != nil {
			t.Errorf("%v in %q", err, page)
		}
		_, body, _ := strings.Cut(string(page), "</style>")
		for _, tag := range regexp.MustCompile(`<[^>]*>?`).FindAllString(body, -1) {
			if !regexp.MustCompile(`^</?(h1|p|div|table|thead|tbody|tr|th|td|details|summary|ul|li|head|body|html)( (class="(right|wrong|error|scroll|state|trouble)"|scope="col"))?>$`).MatchString(tag) {
				t.Errorf("the page contains the foreign tag %s", tag)
			}
		}
		if !strings.Contains(body, "&lt;script&gt;alert(1)") || !strings.Contains(string(page), `content="default-src 'none'; style-src 'unsafe-inline'"`) {
			t.Errorf("%s", page)
		}
	}
}

// TestTheFleetPageIsReplacedAsAWhole also covers a failed run. Its page reports the error,
// since an old page that looks right would hide it.
func TestTheFleetPageIsReplacedAsAWhole(t *testing.T) {
	t.Parallel()
	dir, config, archive := configureFolder(t)
	putHeartbeat(t, archive, "edge-1", 1, 0, bucket.Heartbeat{})
	page := filepath.Join(dir, "fleet.html")
	written := func(want string) {
		t.Helper()
		text, err := os.ReadFile(page)
		if err != nil || !strings.Contains(string(text), "<title>"+want) || !strings.HasSuffix(string(text), "</html>\n") {
			t.Errorf("%v: no %s in %s", err, want, text)
		}
		info, err := os.Stat(page)
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%v, mode %v", err, info.Mode())
		}
	}
	if lines, stderr, status := runFleet(t, config, "--html", page); status != 0 {
		t.Fatalf("%d: %s %q", status, stderr, lines)
	}
	written("RIGHT: no host is silent or in trouble")
	before, err := os.Open(page)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if _, stderr, status := runFleet(t, config, "--html", page, "file:///nowhere"); status != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%d: %s", status, stderr)
	}
	written("ERROR, NO VERDICT: ")
	if text := make([]byte, 100); true {
		if n, err := before.Read(text); err != nil || !strings.HasPrefix(string(text[:n]), "<!doctype html>") {
			t.Errorf("a reader of the previous page gets %q, %v", text[:n], err)
		}
	}
	if _, stderr, status := runFleet(t, config, "--html", dir+"/nowhere/fleet.html"); status != 1 || stderr == "" {
		t.Errorf("%d: %s", status, stderr)
	}
	names, err := os.ReadDir(dir)
	if err != nil || slices.ContainsFunc(names, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".fleet") }) {
		t.Errorf("%v: %v is left", err, names)
	}
}
