package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"collectord/collectord/admin"
	"collectord/shipper/bucket/s3test"
)

// serveStorage serves a fake storage at an address until stop is called. After that the
// address is closed.
func serveStorage(t *testing.T, f *s3test.Server, address string) (stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(ln) }()
	stop = func() { _ = server.Close(); <-ended }
	t.Cleanup(stop)
	return stop
}

func (d *daemon) getAdmin(path string) string {
	d.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", d.admin, path))
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(body)
}

func (d *daemon) status() (s admin.Status) {
	d.t.Helper()
	if err := json.Unmarshal([]byte(d.getAdmin(admin.StatusPath)), &s); err != nil {
		d.t.Fatal(err)
	}
	return s
}

// TestAKilledStorageIsReportedEverywhere also checks the reports once the storage is back.
func TestAKilledStorageIsReportedEverywhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, where := fakeS3(t, dir)
	address := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	stop := serveStorage(t, f, address)
	m := startManager(t, filepath.Join(dir, "notify"))
	config, port, adminPort := configure(t, dir, "wal: {seal_after: 100ms}\nshutdown: {grace: 0s}\nshipper:\n  heartbeat: 0s\n  retry_min: 50ms\n  retry_max: 100ms\n  "+strings.Replace(where, f.URL, "http://"+address, 1)+"\n")
	d := m.run(nil, config, port, adminPort)
	line := func() string { status, _ := m.lastStatus(); return status }
	check := func(want string, exit int) {
		t.Helper()
		out, stderr, status := runCollectord(t, "status", "--check", "--config", config)
		if !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 1 || stderr != "" || status != exit {
			t.Errorf("status --check exits with %d: %s%s; want %d, %q", status, out, stderr, exit, want)
		}
	}
	until(t, "the storage has answered", func() bool { return d.status().Destination.LastSuccess != nil })
	if s := d.status(); s.Verdict != admin.Fine {
		t.Errorf("%s: %s", s.Verdict, s.Summary)
	}
	check("FINE: ", 0)

	stop()
	d.post(&acknowledged{ids: map[int]string{}}, 0, 100, 4, false)
	posted := time.Now()
	const cause = "(connection refused)"
	until(t, "the status reports the failure", func() bool { s := d.status(); return s.Destination.FailingSince != nil && s.Backlog.Usages == 100 })
	s := d.status()
	if e := s.Destination.Error; s.Verdict != admin.Warning || e == nil || e.Kind != "network" || !strings.Contains(e.Advice, address) || s.Destination.LastSuccess.After(posted) ||
		!strings.HasPrefix(s.Summary, "can't ship to s3://bucket/prod/ at http://"+address+" since ") || !strings.Contains(s.Summary, cause) || !strings.Contains(s.Summary, "100 usages wait") {
		t.Errorf("%+v", s)
	}
	until(t, "the service manager has the new status", func() bool {
		return strings.HasPrefix(line(), "can't ship to s3://bucket/prod/ at") && strings.Contains(line(), cause) &&
			strings.Contains(line(), "; what to do: nothing listens at "+address+": start the storage, or correct shipper.s3.endpoint; last success ")
	})
	took := time.Since(posted)
	if verbose := d.getAdmin("/readyz?verbose"); !strings.HasPrefix(verbose, "ok\nverdict: warning; can't ship") || !strings.Contains(verbose, "\ndestination s3://bucket/prod/ at http://"+address+": failing since ") ||
		!strings.Contains(verbose, "\ntrouble shipping: ") || !strings.Contains(verbose, "advice: nothing listens at "+address) {
		t.Errorf("readyz?verbose: %s", verbose)
	}
	if got := d.getAdmin("/readyz"); got != "ok\n" {
		t.Errorf("readyz: %s", got)
	}
	if metrics := d.metrics(); metrics["collectord_shipper_failing_since_timestamp_seconds"] <= metrics["collectord_shipper_last_success_timestamp_seconds"] ||
		metrics[`collectord_trouble{name="shipping"}`] != 1 || metrics[`collectord_trouble{name="full"}`] != 0 {
		t.Errorf("failing since %v", metrics["collectord_shipper_failing_since_timestamp_seconds"])
	}
	out := mustRun(t, "status", "--config", config)
	for _, part := range []string{"WARNING: can't ship to s3://bucket/prod/ at", "\nfailing since  20", "\nerror          network: ", "\nwhat to do     nothing listens at " + address, "\nbacklog        100 usages, "} {
		if !strings.Contains(out, part) {
			t.Errorf("status lacks %q:\n%s", part, out)
		}
	}
	check("WARNING: can't ship to ", 1)
	t.Logf("the status and the service manager had the outage within %v", took.Round(time.Millisecond))

	serveStorage(t, f, address)
	until(t, "all is shipped", func() bool { s := d.status(); return s.Backlog.Usages == 0 && s.Verdict == admin.Fine })
	until(t, "the service manager has the new status", func() bool { return strings.HasPrefix(line(), "all is shipped; usages/s: ") })
	if metrics := d.metrics(); metrics["collectord_shipper_failing_since_timestamp_seconds"] != 0 || metrics[`collectord_trouble{name="shipping"}`] != 0 {
		t.Error("the metrics still report the failure")
	}
	if verbose := d.getAdmin("/readyz?verbose"); !strings.HasPrefix(verbose, "ok\nverdict: fine; ") || strings.Contains(verbose, "trouble") {
		t.Errorf("readyz?verbose: %s", verbose)
	}
	check("FINE: ", 0)
	d.stop()
}

// TestAWrongBucketIsReportedWithNothingToShip runs status over a unix socket.
func TestAWrongBucketIsReportedWithNothingToShip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, where := fakeS3(t, dir)
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		return s3test.Error(w, http.StatusNotFound, "NoSuchBucket")
	}})
	m := startManager(t, filepath.Join(dir, "notify"))
	config, port, adminPort := configure(t, dir, "shipper:\n  heartbeat: 0s\n  "+where+"\n")
	run := m.command(nil, config)
	socket := "unix:" + filepath.Join(dir, "admin.sock")
	run.Args = append(run.Args, "--admin-listen", socket+fmt.Sprintf(",127.0.0.1:%d", adminPort))
	d := startCommand(t, run, port, adminPort)
	until(t, "the status reports the failure", func() bool { return d.status().Destination.FailingSince != nil })
	out, stderr, status := runCollectord(t, "status", "--check", "--config", config, "--admin-listen", socket)
	if status != exitNotRight || !strings.HasPrefix(out, "FAILING: can't ship to s3://bucket/prod/ at ") || stderr != "" {
		t.Errorf("status --check exits with %d: %s%s", status, out, stderr)
	}
	if out := mustRun(t, "status", "--config", config); !strings.Contains(out, "  what to do: create the bucket bucket, or correct shipper.destination\n") {
		t.Errorf("status: %s", out)
	}
	until(t, "the service manager has the new status", func() bool {
		line, _ := m.lastStatus()
		return strings.HasPrefix(line, "can't ship to s3://bucket/prod/ at ") && strings.Contains(line, "all is shipped")
	})
	d.stop()
}
