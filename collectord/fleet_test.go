package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"collectord/collectord/testrun"
	"collectord/shipper/audit"
	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// putHeartbeat stores a heartbeat of the given age for a host.
func putHeartbeat(t *testing.T, store bucket.Store, node string, log uint64, age time.Duration, h bucket.Heartbeat) {
	t.Helper()
	h.At, h.Version, h.FreeBytes = time.Now().Add(-age), "1.2.3", 3<<30
	h.ConfirmedBelow = max(1, h.ConfirmedBelow)
	o, err := bucket.NewHeartbeat(bucket.Key{Node: node, LogID: log << 32, Run: 1}, h)
	if err == nil {
		err = store.Put(context.Background(), o)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func openURL(t *testing.T, url string, o bucket.S3Options) bucket.Store {
	t.Helper()
	s, err := bucket.Open(bucket.Destination{URL: url, S3: o})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runFleet runs fleet and returns its lines with single spaces, and its exit status.
func runFleet(t *testing.T, config string, args ...string) (lines []string, stderr string, status int) {
	t.Helper()
	out, stderr, status := runCollectord(t, append([]string{"fleet", "--config", config}, args...)...)
	return strings.Split(strings.TrimSuffix(regexp.MustCompile(` +`).ReplaceAllString(out, " "), "\n"), "\n"), stderr, status
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("printed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestFleetShowsEachHostAndWhatIsWrongFirst has hosts with their own prefixes, and a prefix
// shared by several hosts.
func TestFleetShowsEachHostAndWhatIsWrongFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, where := fakeS3(t, dir)
	config, _, _ := configure(t, dir, "shipper:\n  "+where+"\n")
	o := bucket.S3Options{Endpoint: f.URL, Region: "us-east-1", PathStyle: "on", CredentialsFile: dir + "/credentials"}
	one, other := openURL(t, "s3://bucket/wards/edge-1", o), openURL(t, "s3://bucket/wards/edge-2", o)
	pattern := "s3://bucket/wards/*/"
	if lines, stderr, status := runFleet(t, config, pattern); status != 2 || !strings.Contains(stderr, "nothing found: no destination matches") {
		t.Errorf("%d: %q %s", status, lines, stderr)
	}
	full := int64(7 * 3600)
	beat := func(t *testing.T, store bucket.Store, node string, log uint64, age time.Duration, h bucket.Heartbeat) {
		t.Helper()
		putHeartbeat(t, store, node, log, age, h)
		ward := map[bucket.Store]string{one: "edge-1", other: "edge-2"}[store]
		f.Touch("wards/"+ward+"/"+bucket.Key{Node: node, LogID: log << 32}.HeartbeatKey(), time.Now().Add(-age))
	}
	beat(t, one, "edge-1", 1, 61*time.Second, bucket.Heartbeat{LastSeq: 20, ConfirmedBelow: 11, Pending: 10, OldestUnshipped: 60, SecondsUntilFull: &full, DayUsages: 1000, DaySeconds: 24 * 3600, ClientsKnown: 1})
	beat(t, one, "old", 9, 40*24*time.Hour, bucket.Heartbeat{})
	beat(t, one, "gone", 8, 50*24*time.Hour, bucket.Heartbeat{Retired: true})
	name := func(n int) string { return fmt.Sprintf("s3://bucket/wards/edge-%d/ at %s", n, f.URL) }

	lines, stderr, status := runFleet(t, config, pattern)
	if status != 0 || stderr != "" {
		t.Errorf("%d: %s", status, stderr)
	}
	wantLines(t, lines,
		"RIGHT: no host is silent or in trouble, and no record is overdue",
		"",
		"STATE NODE LOG VERSION HEARD PENDING OLDEST USAGES/DAY DEVICES FULL IN FREE TROUBLE",
		"fine edge-1 00000001 1.2.3 1m 10 2m 1000 1 7h00m 3 GiB -",
		"",
		"not listed: 1 retired, 1 away (--all lists them)",
		"",
		"NOT KNOWN whether records are missing, or which hosts write no heartbeat: objects were not listed (--holes)",
		"",
		name(1)+": 3 nodes, 3 heartbeats")

	since := time.Now().Add(-2*time.Hour - 61*time.Second)
	beat(t, other, "edge-2", 2, 5*time.Hour, bucket.Heartbeat{})
	beat(t, other, "edge-3", 3, 61*time.Second, bucket.Heartbeat{Trouble: []bucket.Trouble{{Name: "shipping", Since: &since, Message: "AccessDenied"}, {Name: "log", Message: "full"}}, LastSeq: 5, Pending: 5, OldestUnshipped: 25 * 3600})
	f.Put("wards/edge-2/_collectord/nodes/edge-4-0000000400000000.json", []byte("{"))
	object := func(node string, log, first, last uint64) {
		f.Put("wards/"+min(node, "edge-2")+"/"+bucket.Key{Node: node, LogID: log << 32, Run: 1, FirstSeq: first, LastSeq: last, Hour: 490_000}.String(), []byte("x"))
	}
	object("edge-1", 1, 1, 10)
	object("edge-5", 5, 1, 5)
	object("edge-5", 5, 11, 15)
	lines, stderr, status = runFleet(t, config, "--holes", "--grace", "8h", "--all", "--expect", "edge-1,edge-9", pattern)
	if status != 2 || !strings.Contains(stderr, "the fleet is not right: 1 absent host, 1 silent host, 2 logs with overdue records, 1 host in trouble, 1 damaged file\n") {
		t.Errorf("%d: %s", status, stderr)
	}
	wantLines(t, lines,
		"NOT RIGHT: 1 absent host, 1 silent host, 2 logs with overdue records, 1 host in trouble, 1 damaged file",
		"",
		"STATE NODE LOG VERSION HEARD PENDING OLDEST USAGES/DAY DEVICES FULL IN FREE HOLES DESTINATION TROUBLE",
		"absent edge-9 - - - - - - - - - - - no heartbeat, and no objects",
		"silent edge-2 00000002 1.2.3 5h00m 0 - - 0 - 3 GiB - "+name(2)+" -",
		"overdue+trouble edge-3 00000003 1.2.3 1m 5 25h01m - 0 - 3 GiB overdue 5 "+name(2)+" shipping for 2h01m: AccessDenied; log: full",
		"overdue edge-5 00000005 - - - - - - - - overdue 5 "+name(2)+" -",
		"damaged edge-4 00000004 - - - - - - - - - "+name(2)+" not the JSON of a heartbeat; _collectord/nodes/edge-4-0000000400000000.json",
		"fine edge-1 00000001 1.2.3 1m 10 2m 1000 1 7h00m 3 GiB - "+name(1)+" -",
		"retired gone 00000008 1.2.3 50d00h 0 - - 0 - 3 GiB - "+name(1)+" -",
		"away old 00000009 1.2.3 40d00h 0 - - 0 - 3 GiB - "+name(1)+" -",
		"",
		name(1)+", "+name(2)+": 7 nodes, 5 heartbeats, 3 objects")

	known := filepath.Join(dir, "known")
	write(t, known, "0000000300000000 1-5 alice its disk burnt\n0000000500000000 6-10 alice the same\n0000000600000000 1-2 alice nothing\n")
	lines, _, status = runFleet(t, config, "--holes", "--accept", known, "--json", "--silent-for", "5h", pattern)
	var hosts []audit.Host
	var sum fleetSummary
	for i, line := range lines {
		var h audit.Host
		err := json.Unmarshal([]byte(line), &h)
		if i == len(lines)-1 {
			err = json.Unmarshal([]byte(line), &sum)
		} else {
			hosts = append(hosts, h)
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if status != 2 || len(hosts) != 5 || hosts[0].State != audit.Trouble || hosts[0].Heartbeat.Pending != 5 || *hosts[0].WaitingSeconds < 25*3600 || hosts[0].Destination != name(2) ||
		hosts[1].State != audit.Damaged || hosts[1].Key == "" || hosts[2].State != audit.Unheard || hosts[2].HeardSeconds != nil || hosts[4].State != audit.Fine {
		t.Errorf("%d: %s", status, lines)
	}
	if sum.Right || sum.Destinations != 2 || sum.Hosts != 7 || sum.NotListed != 2 || sum.Nodes != 7 || sum.Heartbeats != 5 || !sum.Audited || sum.Objects != 3 ||
		sum.States[audit.Trouble] != 1 || sum.States[audit.Away] != 1 || len(sum.Unused) != 1 || sum.Unused[0].Line != 3 {
		t.Errorf("%+v", sum)
	}
	lines, _, _ = runFleet(t, config, "--holes", "--accept", known, pattern)
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "\nNOT KNOWN when 1 unheard host last wrote") || !strings.Contains(text, "\nACCEPTS NOTHING line 3 ") || strings.Contains(text, "(--holes)") {
		t.Errorf("%s", text)
	}
	// An error must not look like a verdict.
	for _, args := range [][]string{{"--silent-for", "-1h"}, {"--device-silent-for", "-1h"}, {"--grace", "0s"}, {"--accept", dir + "/nowhere"}, {"s3://*/x"}, {"file:///nowhere/at/all"}} {
		if lines, stderr, status := runFleet(t, config, args...); status != 1 || stderr == "" || lines[0] != "" {
			t.Errorf("%q: %d, %q", args, status, lines)
		}
	}
}

// TestAFailingDestinationIsAnErrorAndHidesNoOther has fleet and audit report on the other
// destinations and name the failed one. They exit with 1: there is no verdict.
func TestAFailingDestinationIsAnErrorAndHidesNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, where := fakeS3(t, dir)
	config, _, _ := configure(t, dir, "shipper:\n  "+where+"\n")
	o := bucket.S3Options{Endpoint: f.URL, Region: "us-east-1", PathStyle: "on", CredentialsFile: dir + "/credentials"}
	beats := func(ward, node string, log uint64, age time.Duration, h bucket.Heartbeat) {
		t.Helper()
		putHeartbeat(t, openURL(t, "s3://bucket/wards/"+ward, o), node, log, age, h)
		f.Touch("wards/"+ward+"/"+bucket.Key{Node: node, LogID: log << 32}.HeartbeatKey(), time.Now().Add(-61*time.Second))
	}
	beats("edge-1", "edge-1", 1, time.Second, bucket.Heartbeat{Vanished: 2})
	beats("edge-2", "edge-2", 1, time.Second, bucket.Heartbeat{})
	beats("edge-3", "edge-3", 1, time.Second, bucket.Heartbeat{})
	beats("edge-3", "late", 2, 30*24*time.Hour+2*time.Minute, bucket.Heartbeat{})
	f.Put("wards/edge-3/"+bucket.Key{Node: "edge-3", LogID: 1 << 32, Run: 1, FirstSeq: 1, LastSeq: 10, Hour: 490_000}.String(), []byte("x"))
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasPrefix(r.URL.Query().Get("prefix"), "wards/edge-2/") && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	name := func(n int) string { return fmt.Sprintf("s3://bucket/wards/edge-%d/ at %s", n, f.URL) }
	refused := func(what string) string {
		return "list " + what + ": because the test says so (the key needs s3:ListBucket on this bucket; docs/storages.md, Permissions)"
	}

	lines, stderr, status := runFleet(t, config, "s3://bucket/wards/*/", "file:///nowhere")
	const nowhere = "archive folder: stat /nowhere: no such file or directory"
	if status != 1 || stderr != "collectord: no verdict: 2 of 4 destinations can't be read; the first: "+name(2)+": "+refused("_collectord/nodes/")+"\n" {
		t.Errorf("%d: %s", status, stderr)
	}
	wantLines(t, lines,
		"ERROR, NO VERDICT: 2 destinations that can't be read, 1 host with vanished objects, 1 host with a wrong clock",
		"",
		"STATE NODE LOG VERSION HEARD PENDING OLDEST USAGES/DAY DEVICES FULL IN FREE DESTINATION TROUBLE",
		"error - - - - - - - - - - "+name(2)+" "+refused("_collectord/nodes/"),
		"error - - - - - - - - - - file:///nowhere "+nowhere,
		"vanished edge-1 00000001 1.2.3 1m 0 - - 0 - 3 GiB "+name(1)+" vanished: 2",
		"clock late 00000002 1.2.3 1m 0 - - 0 - 3 GiB "+name(3)+" its clock is 30d00h behind the storage's, or the heartbeat was copied",
		"fine edge-3 00000001 1.2.3 1m 0 - - 0 - 3 GiB "+name(3)+" -",
		"",
		"NOT KNOWN whether records are missing, or which hosts write no heartbeat: objects were not listed (--holes)",
		"",
		name(1)+" and 3 other destinations: 3 nodes, 3 heartbeats")

	out, stderr, status := runCollectord(t, "audit", "--config", config, "s3://bucket/wards/*/")
	if status != 1 || !strings.Contains(stderr, "no verdict: 1 of 3 destinations can't be read; the first: "+name(2)) ||
		!strings.HasPrefix(out, "ERROR, NO VERDICT: 1 destination that can't be read, nothing found\n\nERROR\n  "+refused("_collectord/nodes/")+"\n  in "+name(2)+"\n\nNOTHING\n") {
		t.Errorf("%d: %s\n%s", status, stderr, out)
	}
	out, _, status = runCollectord(t, "audit", "--json", "--config", config, "s3://bucket/wards/*/")
	if status != 1 || !strings.HasPrefix(out, `{"finding":"error","reason":"list _collectord`) || !strings.Contains(out, `"right":false`) {
		t.Errorf("%d: %s", status, out)
	}
	// A single failing destination is only an error. cat prints nothing if one fails.
	for _, args := range [][]string{{"fleet", "s3://bucket/wards/edge-2"}, {"audit", "s3://bucket/wards/edge-2"}, {"cat", "s3://bucket/wards/edge-3", "file:///nowhere"}} {
		if out, stderr, status := runCollectord(t, append(args, "--config", config)...); status != 1 || out != "" || stderr == "" {
			t.Errorf("%q: %d: %s\n%s", args, status, stderr, out)
		}
	}
}

// TestFleetOfARealHost runs a daemon that ships to a folder, and takes the host out of
// service.
func TestFleetOfARealHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, d := shipFourObjects(t, dir, "")
	d.stop()
	lines, _, status := runFleet(t, config)
	if status != 0 || !strings.HasPrefix(lines[3], "unheard - - - - - - - - - - objects, but no heartbeat") || !strings.Contains(strings.Join(lines, "\n"), "NOT KNOWN when 1 unheard host last wrote") {
		t.Errorf("%d: %q", status, lines)
	}
	if lines, _, status := runFleet(t, config, "--holes", "--expect", "edge-1"); status != 0 || !strings.HasPrefix(lines[3], "unheard edge-1 ") || !strings.HasSuffix(lines[len(lines)-1], ": 1 node, 0 heartbeats, 4 objects") {
		t.Errorf("%d: %q", status, lines)
	}
	mustRun(t, "ship", "--config", config)
	lines, _, status = runFleet(t, config)
	if status != 0 || !strings.Contains(strings.Join(lines, "\n"), "not listed: 1 retired (--all lists them)") {
		t.Errorf("%d: %q", status, lines)
	}
	if err := os.Remove(archivedObjects(t, dir)[1]); err != nil {
		t.Fatal(err)
	}
	if lines, _, status := runFleet(t, config, "--holes"); status != 2 || lines[0] != "NOT RIGHT: 1 log with missing records" || !strings.Contains(lines[3], " missing 10 ") {
		t.Errorf("%d: %q", status, lines)
	}
	if _, stderr, status := runFleet(t, config, "file://"+t.TempDir()); status != 2 || !strings.Contains(stderr, "nothing found in 1 destination") {
		t.Errorf("%d: %s", status, stderr)
	}
}

// TestFleetTakesLittleMemory has 3,000 hosts with every possible trouble, some of them with
// their own prefixes.
func TestFleetTakesLittleMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, _, _ := configure(t, dir, "")
	n := 3000 / testrun.OneIn(6)
	var troubles []bucket.Trouble // the maximum number, with the maximum length
	for range 10 {
		troubles = append(troubles, bucket.Trouble{Name: strings.Repeat("x", 63), Message: strings.Repeat("x", 200)})
	}
	var clients []bucket.Client
	for i := range 100 {
		clients = append(clients, bucket.Client{Name: fmt.Sprintf("%s-%d", strings.Repeat("x", 50), i)})
	}
	for i := range n {
		k := bucket.Key{Node: fmt.Sprint("edge-", i), LogID: uint64(i + 1), Run: 1}
		o, err := bucket.NewHeartbeat(k, bucket.Heartbeat{ConfirmedBelow: 1, Trouble: troubles, ClientsKnown: 100, Clients: clients, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "wards", fmt.Sprint(max(0, i-n+100)), k.HeartbeatKey())
		text, err := io.ReadAll(io.NewSectionReader(o.Body, 0, o.Size))
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o750)); err != nil {
			t.Fatal(err)
		}
		write(t, path, string(text))
	}
	cmd := command(t, "fleet", "--config", config, "--json", "--holes", "file://"+dir+"/wards/*/")
	lines := outputMeter{pid: func() int { return cmd.Process.Pid }}
	cmd.Stdout = &lines
	began := time.Now()
	_ = cmd.Run() // its exit status is checked below
	if status := cmd.ProcessState.ExitCode(); status != 2 || lines.lines != n+1 || lines.peakMiB == 0 || lines.peakMiB > 96 {
		t.Errorf("fleet exits with %d after %d lines, and took %d MiB", status, lines.lines, lines.peakMiB)
	}
	t.Logf("fleet took %d MiB and %v", lines.peakMiB, time.Since(began))
}
