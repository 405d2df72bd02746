//go:build packages

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRemovalAndPurgeLoseNothing(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.install(earlier)
	shipped := m.store(`{"patientId":"99"}`)
	m.ship(shipped)
	// From here on nothing can be shipped.
	m.configure("shipper: {destination: 's3://usages', s3: {endpoint: 'http://127.0.0.1:9'}}")
	m.shell("sed -i '2,$ s/^shipper:/#&/; 2,$ s/^  s3:/#&/' /etc/collectord/collectord.yaml")
	m.do("systemctl", "restart", "collectord")
	a, b := m.store(`{"patientId":"100"}`), m.store(`{"patientId":"101"}`)

	out := m.do("dpkg", "--remove", "collectord")
	t.Log(out)
	for _, want := range []string{"usages in /var/lib/collectord that are not shipped: 2.", "Those that the storage confirmed in the last minutes (shipper.keep) are among them.", "collectord ship"} {
		if !strings.Contains(out, want) {
			t.Errorf("the removal does not print: %s", want)
		}
	}
	if _, err := m.post(`{}`); err == nil {
		t.Error("the daemon still runs")
	}
	if m.exists("/usr/bin/collectord") || !m.exists("/etc/collectord/collectord.yaml") || !m.exists("/var/lib/collectord/wal/LOG") {
		t.Error("want the program removed, the configuration and the data kept")
	}

	out = m.do("dpkg", "--purge", "collectord")
	t.Log(out)
	if !strings.Contains(out, "/var/lib/collectord holds usages that are not shipped: it is kept") {
		t.Error("the purge does not print that data is kept")
	}
	if m.exists("/etc/collectord") || !m.exists("/var/lib/collectord/wal/LOG") {
		t.Error("want the configuration removed and the data kept")
	}

	// After another installation the daemon starts, and ships the kept log.
	m.install(earlier)
	if state := m.unitProperty("ActiveState"); state != "active" {
		t.Fatalf("the service is %s", state)
	}
	m.ship(shipped, a, b)
	waitUntil(t, "all is shipped", func() bool { return strings.Contains(m.do("collectord", "wal", "ls"), "total, sealed records  0") })

	// The package is removed, and installed again with the kept configuration.
	t.Log(m.do("dpkg", "--remove", "collectord"))
	m.install(later)
	if state := m.unitProperty("ActiveState"); state != "active" {
		t.Fatalf("the service is %s", state)
	}

	// An archive on this host is the only copy: a purge keeps it, and removes the log.
	out = m.do("dpkg", "--purge", "collectord")
	t.Log(out)
	if m.exists("/var/lib/collectord/wal") || m.exists("/var/lib/collectord/spool") {
		t.Error("the empty log is kept")
	}
	if got := m.shell("find /var/lib/collectord/archive -name '*.zst' | wc -l"); got == "0" {
		t.Error("the archive was removed")
	}
	m.shell("rm -r /var/lib/collectord/archive")

	// Without an archive nothing is left.
	m.install(earlier)
	m.do("dpkg", "--purge", "collectord")
	if m.exists("/var/lib/collectord") || m.exists("/etc/collectord") || m.exists("/etc/systemd/system/multi-user.target.wants/collectord.service") || m.exists("/etc/systemd/system/collectord.service") {
		t.Error("files are left after the purge")
	}
}

// A drop-in of the unit sets another data_dir than the configuration. A removal counts what is
// there, and ship warns that it does not see this variable.
func TestRemovalCountsTheLogOfTheUnit(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.install(earlier)
	m.do("mkdir", "-p", "/srv/usages", "/etc/systemd/system/collectord.service.d")
	m.do("chown", "collectord:", "/srv/usages")
	m.write("/etc/systemd/system/collectord.service.d/data.conf", "[Service]\nEnvironment=COLLECTORD_DATA_DIR=/srv/usages\nReadWritePaths=/srv/usages\n")
	m.do("systemctl", "daemon-reload")
	m.do("systemctl", "restart", "collectord")
	m.store(`{"patientId":"100"}`)
	m.crash()
	if out, _ := m.try("collectord", "ship", "--no-wait"); !strings.Contains(out, "may use another data_dir or destination: COLLECTORD_DATA_DIR (systemctl cat collectord)") {
		t.Errorf("ship: %s", out)
	}
	if out := m.do("dpkg", "--remove", "collectord"); !strings.Contains(out, "usages in /srv/usages that are not shipped: 1.") {
		t.Errorf("the removal prints: %s", out)
	}
}

func TestPurgeKeepsWhatACrashLeft(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.install(earlier)
	m.store(`{"patientId":"100"}`)
	m.crash()
	out := m.do("dpkg", "--purge", "collectord")
	t.Log(out)
	if !strings.Contains(out, "usages in /var/lib/collectord that are not shipped: 1.") || !m.exists("/var/lib/collectord/wal/LOG") {
		t.Error("the purge does not recognize the usages of a crashed daemon")
	}
}

// The purge script recognizes the log by its file names, since the program is already
// removed.
func TestPurgeKnowsWhatMustNotBeLost(t *testing.T) {
	t.Parallel()
	const sealed, active = "00000000000000000001-00000000000000000002", "00000000000000000003"
	const header, frame = "\x26\xffcdS\x01\x02\x00", "\x4f\xffcdF\x01\x00"
	m := &machine{t: t, root: tree(t)}
	script := ""
	for _, part := range []string{"common", "deb.postrm"} {
		text, err := os.ReadFile("../scripts/" + part)
		if err != nil {
			t.Fatal(err)
		}
		script += string(text)
	}
	m.write("/root/postrm", script)
	for name, c := range map[string]struct {
		file, content string
		kept          bool
	}{
		"a sealed segment":                {"wal/" + sealed + "/00000000000000000001", header + frame, true},
		"a segment that a crash left":     {"wal/" + active + "/00000000000000000001", header + frame + "\x00\x00", true},
		"quarantined bytes":               {"wal/quarantine/" + sealed + ".gone", "?", true},
		"a loss note":                     {"wal/lost/" + sealed + "-0123456789abcdef", "collectord-loss 1", true},
		"what a later version may leave":  {"wal/SOMETHING", "?", true},
		"an empty segment":                {"wal/" + active + "/00000000000000000001", header, false},
		"a segment written ahead":         {"wal/next/00000000000000000001", header + "\x00\x00", false},
		"a segment that was shipped":      {"wal/" + sealed + ".gone/00000000000000000001", header + frame, false},
		"room for loss notes":             {"wal/lost/reserve", "\x00", false},
		"pieces of an unfinished salvage": {"wal/salvage/1/00000000000000000001", header + frame, true}, // it is unknown whether another segment has these records
	} {
		m.write("/var/lib/collectord/wal/LOG", "collectord-log 1")
		m.write("/var/lib/collectord/"+c.file, c.content)
		output := m.chroot("/bin/sh", "/root/postrm", "purge")
		if kept := m.exists("/var/lib/collectord/" + c.file); kept != c.kept {
			t.Errorf("%s: kept is %v: %s", name, kept, output)
		}
		if err := os.RemoveAll(filepath.Join(m.root, "/var/lib/collectord")); err != nil {
			t.Fatal(err)
		}
	}
}
