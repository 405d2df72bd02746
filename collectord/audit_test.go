package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/shipper/audit"
)

// archivedObjects returns the objects of a folder archive, sorted by key.
func archivedObjects(t *testing.T, dir string) []string {
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(dir, "data", "archive", "dt=*", "*", "*.ndjson.zst"))
	if err != nil || len(objects) == 0 {
		t.Fatalf("%v, %v", objects, err)
	}
	return objects
}

// TestAHostTakenOutOfServiceIsReported runs the commands that cron runs over the life of
// a host.
func TestAHostTakenOutOfServiceIsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, d := shipFourObjects(t, dir, "")
	d.stop()
	if out := mustRun(t, "audit", "--config", config); !strings.Contains(out, ", 0 heartbeats\n") {
		t.Errorf("audit prints %s", out)
	}
	if out, stderr, status := runCollectord(t, "audit", "--config", config, "--expect", "edge-1,edge-2"); status != 2 ||
		!strings.HasPrefix(out, "NOT RIGHT: 1 absent node\n\nABSENT  edge-2\n  no objects of this node, and no heartbeat\n") {
		t.Errorf("audit exits with %d: %s%s", status, out, stderr)
	}
	mustRun(t, "audit", "--config", config, "--expect", "edge-1")
	if _, stderr, status := runCollectord(t, "ship", "--config", config); status != 0 {
		t.Fatalf("ship exits with %d: %s", status, stderr)
	}
	out := mustRun(t, "audit", "--config", config, "--expect", "edge-1", "--from-start")
	if !strings.HasPrefix(out, "RIGHT: ") || !strings.Contains(out, ", 1 heartbeat\n") {
		t.Errorf("audit prints %s", out)
	}

	// The heartbeat in the folder shows which records were confirmed, so the audit finds a
	// deleted object.
	objects := archivedObjects(t, dir)
	if err := os.Remove(objects[1]); err != nil {
		t.Fatal(err)
	}
	out, stderr, status := runCollectord(t, "audit", "--config", config)
	if status != 2 || !strings.HasPrefix(out, "NOT RIGHT: 1 missing range (10 records)\n") || strings.Contains(out, "NOT KNOWN") {
		t.Errorf("audit exits with %d: %s%s", status, out, stderr)
	}
	finding, _, _ := runAuditJSON(t, config)
	known := filepath.Join(dir, "known")
	line := finding.LogID + " 11-20 alice deleted by hand, ticket 4711\n"
	if err := os.WriteFile(known, []byte("# incidents\n"+line+strings.Replace(line, "11-20", "31-40", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out = mustRun(t, "audit", "--config", config, "--accept", known)
	for _, want := range []string{
		"RIGHT: nothing is missing, overdue, doubled, forked or conflicting; accepted: 1 missing range (10 records)\n",
		"\nMISSING, ACCEPTED  seq 11 to 20 (10 records) of edge-1, log ", "\n  accepted by alice: deleted by hand, ticket 4711\n",
		"\nACCEPTS NOTHING  line 3 of the accepted incidents: seq 31 to 40 of log ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("audit does not print %q: %s", want, out)
		}
	}
	lines := strings.Split(strings.TrimSpace(mustRun(t, "audit", "--config", config, "--accept", known, "--json")), "\n")
	var sum auditSummary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil || !sum.Right || sum.Accepted[audit.Missing].Records != 10 || len(sum.Unused) != 1 || sum.Heartbeats != 1 {
		t.Errorf("audit --json: %s, %v", lines, err)
	}
	if err := os.WriteFile(known, []byte("\n"+line+"what\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, stderr, status := runCollectord(t, "audit", "--config", config, "--accept", known); status != 1 || out != "" || !strings.HasPrefix(stderr, "collectord: --accept "+known+":3: ") {
		t.Errorf("a bad line: %d, %s%s", status, out, stderr)
	}

	// The audit reports a log that begins above seq 1.
	if err := os.Remove(objects[0]); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, "audit", "--config", config); !strings.Contains(out, "\nEARLIER  seq 1 to 20 (20 records) of edge-1, log ") || !strings.Contains(out, "\n  20 earlier records are not here: expired, or lost\n") {
		t.Errorf("audit prints %s", out)
	}
	if out, _, status := runCollectord(t, "audit", "--config", config, "--from-start"); status != 2 || !strings.Contains(out, "MISSING  seq 1 to 20") {
		t.Errorf("audit --from-start exits with %d: %s", status, out)
	}
}

func TestAuditOfNothingExitsWith2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, d := shipFourObjects(t, dir, "")
	d.stop()
	archive := "file://" + filepath.Join(dir, "data", "archive")
	empty := filepath.Join(dir, "data", "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args   []string
		stdout string // how standard output begins
		stderr string
	}{
		"an empty folder":               {[]string{"file://" + empty}, "NOT RIGHT: nothing found\n\nNOTHING\n  no objects of collectord under file://" + empty, "nothing found"},
		"an unknown node":               {[]string{"--node", "edge-9"}, "NOT RIGHT: nothing found\n\nNOTHING  edge-9\n  no objects of this node under " + archive, "nothing found"},
		"a pattern without a match":     {[]string{"file://" + dir + "/nobody*/"}, "", "nothing found: no destination matches file://" + dir + "/nobody*/"},
		"an empty folder among several": {[]string{"file://" + dir + "/data/e*", archive}, "NOT RIGHT: nothing found\n\nNOTHING\n  no objects of collectord under file://" + empty + "\n  in file://" + empty, "nothing found"},
	} {
		out, stderr, status := runCollectord(t, append([]string{"audit", "--config", config}, c.args...)...)
		if status != 2 || !strings.HasPrefix(out, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%s: %d, %s%s", name, status, out, stderr)
		}
	}
	if out, stderr, status := runCollectord(t, "audit", "--config", config, "--node", "edge-1", "--expect", "edge-1,edge-2"); status != 1 || out != "" ||
		!strings.Contains(stderr, "--expect edge-2: with --node only edge-1 is audited: leave out --node") {
		t.Errorf("audit of edge-1 that also expects edge-2 exits with %d: %s%s", status, out, stderr)
	}
	mustRun(t, "audit", "--config", config, "--node", "edge-1", "--expect", "edge-1")
	mustRun(t, "audit", "--config", config, "--node", "edge-1", archive, "file://"+dir+"/*/archive/") // both name the same folder, which is audited once
	if lines := mustRun(t, "cat", "--config", config, "file://"+empty, "file://"+dir+"/data/*/"); strings.Count(lines, "\n") != 40 {
		t.Errorf("cat prints %d lines", strings.Count(lines, "\n"))
	}
	if _, stderr, status := runCollectord(t, "cat", "--config", config, "file://"+dir+"/nobody*/"); status != 1 || !strings.Contains(stderr, "no destination matches") {
		t.Errorf("cat exits with %d: %s", status, stderr)
	}
}
