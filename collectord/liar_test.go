package main

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// TestALoginPageIsNotMistakenForTheStorage runs the daemon and collectord ship while a
// login page answers in place of the storage. No segment is removed. When the storage is
// back, every usage is stored, once.
func TestALoginPageIsNotMistakenForTheStorage(t *testing.T) {
	t.Parallel()
	const n = 20
	dir := t.TempDir()
	f, settings := fakeS3(t, dir)
	f.Behave(s3test.Behaviour{Lie: s3test.Page})
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {grace: 0s, drain: 0s}\nshipper:\n  "+settings+"\n")
	acks := &acknowledged{ids: map[int]string{}}
	d := start(t, config, port, admin)
	d.post(acks, 0, n, 1, false)
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	var m map[string]float64
	until(t, "an upload failed", func() bool {
		m = d.metrics()
		return m[`collectord_shipper_failures_total{kind="not_a_store"}`] > 0
	})
	d.checkLedger(m)
	if m["collectord_usages_shipped_total"] != 0 || m["collectord_usages_pending"] != n {
		t.Errorf("%v shipped, %v pending", m["collectord_usages_shipped_total"], m["collectord_usages_pending"])
	}
	d.untilLogged("no S3 storage answers at shipper.s3.endpoint")
	d.untilLogged("trouble=shipping")
	d.stop()
	out, err := command(t, "ship", "--config", config, "--give-up-after", "1ms").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "left") {
		t.Errorf("ship to a login page: %v: %s", err, out)
	}
	for _, args := range [][]string{{"audit"}, {"cat"}} {
		// A page in place of a listing does not count as an empty bucket.
		f.Behave(s3test.Behaviour{Fault: s3test.EveryPage})
		out, err := command(t, append(args, "--config", config)...).CombinedOutput()
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "not S3's") {
			t.Errorf("%s of a login page: %v: %s", args[0], err, out)
		}
	}
	f.Behave(s3test.Behaviour{})
	if out, err := command(t, "ship", "--config", config).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	records, objects := download(t, config)
	verifyAcknowledged(t, acks, records)
	if len(records) != n || objects != 1 {
		t.Errorf("%d records in %d objects", len(records), objects)
	}
	for key, puts := range f.Puts() {
		if puts != 1 && !strings.Contains(key, "/_collectord/") {
			t.Errorf("%s was stored %d times", key, puts)
		}
	}
}
