package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runWal runs a wal command and returns its output and exit status.
func runWal(t *testing.T, config string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := command(t, append([]string{"wal", "--config", config}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), status
}

// mustRunWal runs a wal command and returns its lines.
func mustRunWal(t *testing.T, want int, config string, args ...string) (lines []string) {
	t.Helper()
	stdout, stderr, status := runWal(t, config, args...)
	if status != want {
		t.Fatalf("wal %v exits with %d, want %d: %s%s", args, status, want, stdout, stderr)
	}
	if stdout == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
}

func TestWalCommandsOnALiveAndOnADamagedLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The storage is unavailable, so everything stays in the log.
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\nshutdown: {grace: 0s}\nshipper: {destination: 's3://usages/p', s3: {endpoint: 'http://127.0.0.1:9', region: us-east-1}}\n")
	d := start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 400, 8, false)

	if lines := mustRunWal(t, 0, config, "cat"); len(lines) != 400 || !strings.HasPrefix(lines[0], `{"id":"`) {
		t.Errorf("cat of a live log prints %d lines", len(lines))
	}
	lines := mustRunWal(t, 0, config, "verify", "--json")
	var active segmentLine
	if err := json.Unmarshal([]byte(lines[0]), &active); err != nil || len(lines) != 1 || active.State != "active" ||
		active.Records != 400 || !*active.OK || active.Node != "edge-1" {
		t.Errorf("verify of a live log: %s, %v", lines, err)
	}
	if _, stderr, status := runWal(t, config, "repair"); status != 1 || !strings.Contains(stderr, "in use by another collectord") {
		t.Errorf("repair of a live log exits with %d: %s", status, stderr)
	}
	d.kill()
	if lines := mustRunWal(t, 0, config, "cat"); len(lines) != 400 {
		t.Errorf("cat of the log of a killed daemon prints %d lines", len(lines))
	}
	mustRunWal(t, 0, config, "repair")
	sealed := filepath.Join(dir, "data", "wal", "00000000000000000001-00000000000000000400", "00000000000000000001")
	if out := strings.Join(mustRunWal(t, 0, config, "ls"), "\n"); !strings.Contains(out, "sealed") || !strings.Contains(out, " 400 ") {
		t.Errorf("ls after repair: %s", out)
	}

	b, err := os.ReadFile(sealed)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(`"patientId"`))
	b[at] ^= 1 // a bit of a usage in the first frame
	if err := os.WriteFile(sealed, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, status := runWal(t, config, "verify")
	if status != 2 || !strings.Contains(out, "DAMAGED") || !strings.Contains(out, "lost: seq 1 to ") || !strings.Contains(stderr, "damaged") {
		t.Errorf("verify of a damaged log exits with %d: %s%s", status, out, stderr)
	}
	var line segmentLine
	out, _, _ = runWal(t, config, "verify", "--json")
	if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &line); err != nil || *line.OK || len(line.Damaged) != 1 ||
		line.Damaged[0][0] > int64(at) || line.Damaged[0][1] <= int64(at) {
		t.Errorf("verify --json does not name byte %d: %s, %v", at, out, err)
	}
	out, _, status = runWal(t, config, "cat")
	if n := strings.Count(out, "\n"); status != 2 || n == 0 || uint64(n) != line.Records {
		t.Errorf("cat of a damaged log exits with %d and prints %d lines, %d records check out", status, n, line.Records)
	}
	mustRunWal(t, 0, config, "repair")
	if got := mustRunWal(t, 0, config, "cat"); uint64(len(got)) != line.Records {
		t.Errorf("%d records after repair, want %d", len(got), line.Records)
	}
	if report, _ := filepath.Glob(filepath.Join(dir, "data", "wal", "quarantine", "*.txt")); len(report) != 1 {
		t.Errorf("reports in the quarantine: %v", report)
	}
}

func TestWalCommandsWhereThereIsNoLog(t *testing.T) {
	config, _, _ := configure(t, t.TempDir(), "")
	for _, sub := range []string{"ls", "verify", "cat", "repair"} {
		if _, stderr, status := runWal(t, config, sub); status != 1 || stderr == "" {
			t.Errorf("wal %s without a log exits with %d: %s", sub, status, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(config), "data")); err == nil {
		t.Error("a command that only reads made a log")
	}
}
