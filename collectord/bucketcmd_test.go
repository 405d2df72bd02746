package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"collectord/shipper/audit"
)

// runCollectord runs a command to its end.
func runCollectord(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := command(t, args...)
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

// mustRun runs a command that has to succeed and to print nothing on standard error.
func mustRun(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	stdout, stderr, status := runCollectord(t, args...)
	if status != 0 || stderr != "" {
		t.Fatalf("collectord %v exits with %d: %s%s", args, status, stdout, stderr)
	}
	return stdout
}

// TestShipEmptiesAHostThatWasKilled ships the log of a killed daemon, and checks the archive
// with the other commands.
func TestShipEmptiesAHostThatWasKilled(t *testing.T) {
	for name, settings := range destinations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			where := settings(t, dir)
			config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0, seal_after: 1h}\nshipper:\n  "+where+"\n")
			d := start(t, config, port, admin)
			acks := &acknowledged{ids: map[int]string{}}
			d.post(acks, 0, 300, 8, false)
			if _, stderr, status := runCollectord(t, "ship", "--config", config); status != 1 || !strings.Contains(stderr, fmt.Sprintf("(process %d)", d.cmd.Process.Pid)) {
				t.Errorf("ship beside a daemon exits with %d: %s", status, stderr)
			}
			d.kill()

			out, stderr, status := runCollectord(t, "ship", "--config", config, "--json")
			var result shipResult
			if err := json.Unmarshal([]byte(out), &result); err != nil || status != 0 || !result.Done || result.Records != 300 || result.Objects == 0 || result.LeftSegments > 0 {
				t.Fatalf("ship exits with %d: %s%s", status, out, stderr)
			}
			if result.Folder != (name == "folder") {
				t.Errorf("result %s", out)
			}
			records, _ := download(t, config)
			verifyAcknowledged(t, acks, records)
			if out, _, status := runCollectord(t, "ship", "--config", config); status != 0 || !strings.Contains(out, "shipped 0 records") {
				t.Errorf("a second ship exits with %d: %s", status, out)
			}

			out = mustRun(t, "audit", "--config", config, "--deep", "--from-start")
			if !strings.HasPrefix(out, "RIGHT: ") || !strings.Contains(out, "edge-1") || !strings.Contains(out, " 300 ") {
				t.Errorf("audit: %s", out)
			}
			if lines := mustRun(t, "cat", "--config", config); strings.Count(lines, "\n") != 300 {
				t.Errorf("cat prints %d lines", strings.Count(lines, "\n"))
			}
			var id string
			for _, id = range acks.ids {
				break
			}
			if line := mustRun(t, "cat", "--config", config, "--id", id); strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, `{"id":"`+id+`"`) {
				t.Errorf("cat of one id: %s", line)
			}
			usages := mustRun(t, "cat", "--config", config, "--usages", "--dedupe", "--from", "1h", "--node", "edge-1")
			if strings.Count(usages, "\n") != 300 || !strings.HasPrefix(usages, `{"`) || strings.Contains(usages, "received_at") {
				t.Errorf("cat of usages: %.200s", usages)
			}
			for _, args := range [][]string{{"--to", "1h"}, {"--node", "edge-2"}, {"--from", "2020-01-01", "--to", "2020-01-03T00:00:00Z"}} {
				if out := mustRun(t, append([]string{"cat", "--config", config}, args...)...); out != "" {
					t.Errorf("cat %v: %.200s", args, out)
				}
			}
			for _, args := range [][]string{{"--from", "yesterday"}, {"--from", "1h", "--to", "2h"}, {"--id", "7"}, {"--id", "01a20a8b-0000-7000-8000-000000000001"}} {
				if out, stderr, status := runCollectord(t, append([]string{"cat", "--config", config}, args...)...); status != 1 || stderr == "" || out != "" {
					t.Errorf("cat %v exits with %d: %s%s", args, status, out, stderr)
				}
			}
		})
	}
}

// shipFourObjects runs a daemon that ships four objects of ten records.
func shipFourObjects(t *testing.T, dir, shipper string) (config string, d *daemon) {
	t.Helper()
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\n"+shipper)
	d = start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	for i := range 4 {
		d.post(acks, i*10, i*10+10, 2, false)
		if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		until(t, "all usages are shipped", func() bool { return d.metrics()["collectord_usages_pending"] == 0 })
	}
	return config, d
}

func TestAuditExitsWith2AndNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, settings := fakeS3(t, dir)
	config, d := shipFourObjects(t, dir, "shipper:\n  "+withoutKeep(settings)+"\n") // confirmed_below rises at once
	mustRun(t, "audit", "--config", config, "--deep")
	d.stop()
	for key := range f.Objects() {
		if strings.Contains(key, "-00000000000000000011-") {
			f.Put(key, nil)
		}
	}
	out, stderr, status := runCollectord(t, "audit", "--config", config)
	if status != 2 || !strings.HasPrefix(out, "NOT RIGHT: 1 missing range (10 records)\n") || !strings.Contains(out, "MISSING  seq 11 to 20 (10 records) of edge-1, log ") ||
		!strings.Contains(stderr, "1 missing range (10 records)") || strings.Contains(out, "NOT KNOWN") {
		t.Errorf("audit exits with %d: %s%s", status, out, stderr)
	}
	finding, sum, status := runAuditJSON(t, config)
	if status != 2 || finding.Kind != audit.Missing || finding.FirstSeq != 11 || finding.LastSeq != 20 ||
		sum.Right || sum.Found[audit.Missing].Records != 10 || sum.Objects != 3 || sum.Unconfirmed != 0 {
		t.Errorf("audit --json exits with %d: %+v, %+v", status, finding, sum)
	}
}

// TestAuditOfAFolderReportsWhatItCannotKnow audits a folder, which has no metadata.
func TestAuditOfAFolderReportsWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, d := shipFourObjects(t, dir, "shipper: {heartbeat: 0s}\n")
	// Reading the archive of a running daemon does not disturb it.
	unfinished := filepath.Join(dir, "data", "archive", "_collectord", "tmp", "put-1")
	if err := os.WriteFile(unfinished, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, "audit", "--config", config, "--deep"); !strings.Contains(out, "NOT KNOWN  the SHA-256 of the lines of 4 objects") {
		t.Errorf("a deep audit prints: %s", out)
	}
	mustRun(t, "cat", "--config", config)
	if _, err := os.Stat(unfinished); err != nil {
		t.Error(err)
	}
	d.stop()
	objects, _ := filepath.Glob(filepath.Join(dir, "data", "archive", "dt=*", "*", "*-00000000000000000011-*"))
	if len(objects) != 1 {
		t.Fatal(objects)
	}
	if err := os.Remove(objects[0]); err != nil {
		t.Fatal(err)
	}
	out, stderr, status := runCollectord(t, "audit", "--config", config)
	if status != 0 || !strings.Contains(out, "NOT YET  seq 11 to 20 (10 records) of edge-1, log ") || !strings.Contains(out, "NOT KNOWN  what the hosts of 1 log had confirmed") {
		t.Errorf("audit exits with %d: %s%s", status, out, stderr)
	}
	if finding, sum, status := runAuditJSON(t, config); status != 0 || finding.Kind != audit.NotYet || sum.Unconfirmed != 1 || finding.Reason == "" {
		t.Errorf("audit --json exits with %d: %+v, %+v", status, finding, sum)
	}
}

// runAuditJSON returns the only finding and the sum of audit --json about one log.
func runAuditJSON(t *testing.T, config string) (finding audit.Finding, sum auditSummary, status int) {
	t.Helper()
	out, _, status := runCollectord(t, "audit", "--config", config, "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		t.Fatalf("audit --json: %s", out)
	}
	if err := errors.Join(json.Unmarshal([]byte(lines[0]), &finding), json.Unmarshal([]byte(lines[2]), &sum)); err != nil {
		t.Fatal(err)
	}
	return finding, sum, status
}

func TestAuditOfNothingMakesNothing(t *testing.T) {
	config, _, _ := configure(t, t.TempDir(), "")
	for _, args := range [][]string{{"audit"}, {"cat"}, {"ship"}} {
		if _, stderr, status := runCollectord(t, append(args, "--config", config)...); status != 1 || stderr == "" {
			t.Errorf("%v of nothing exits with %d: %s", args, status, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(config), "data")); err == nil {
		t.Error("a command that only reads made the directory")
	}
}

func TestShipReportsWhatIsLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {grace: 0s}\nshipper: {retry_min: 10ms, destination: 's3://usages/p', s3: {endpoint: 'http://127.0.0.1:9', region: us-east-1}}\n")
	d := start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 50, 8, false)
	d.stop()
	out, stderr, status := runCollectord(t, "ship", "--config", config, "--json", "--give-up-after", "300ms")
	var result shipResult
	if err := json.Unmarshal([]byte(out), &result); err != nil || status != 2 || result.Done || result.LeftRecords != 50 || len(result.Left) != 1 ||
		!strings.Contains(stderr, "1 segment with 50 records (00000000000000000001-00000000000000000050) left") || !strings.Contains(stderr, "can't ship") {
		t.Errorf("ship without a storage exits with %d: %s%s, %v", status, out, stderr, err)
	}

	// After a signal, ship stops and reports the number of records left. The log stays intact.
	cmd := command(t, "ship", "--config", config, "--give-up-after", "0")
	r, w := io.Pipe()
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	output := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		one := make([]byte, 1)
		for interrupted := false; ; {
			n, err := r.Read(one)
			if b.Write(one[:n]); err != nil {
				break
			}
			if !interrupted && bytes.Contains(b.Bytes(), []byte("can't ship")) {
				interrupted = true
				_ = cmd.Process.Signal(os.Interrupt)
			}
		}
		output <- b.String()
	}()
	err := cmd.Wait()
	w.Close()
	if text := <-output; cmd.ProcessState.ExitCode() != 2 || !strings.Contains(text, "50 records") || !strings.Contains(text, "interrupted") {
		t.Errorf("an interrupted ship ends with %v: %s", err, text)
	}
	if lines := mustRunWal(t, 0, config, "cat"); len(lines) != 50 {
		t.Errorf("%d records in the log", len(lines))
	}
}

func TestABrokenPipeEndsCatQuietly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\n")
	d := start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 5000, 16, false) // more than fits into a pipe
	d.stop()
	cmd := command(t, "cat", "--config", config)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(testTimeout):
		_ = cmd.Process.Kill()
		t.Fatal("cat continues after its output was closed")
	}
	if stderr.Len() > 0 {
		t.Errorf("standard error: %s", stderr.String())
	}
}
