//go:build packages

package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkup is the output of collectord doctor --json, by the names of the checks.
type checkup map[string]struct{ Check, Level, Found, Advice string }

// doctor runs the doctor as root in the machine. It ignores the exit status.
func (m *machine) doctor(args string) (all checkup, printed string) {
	m.t.Helper()
	printed, _ = m.try("sh", "-c", "collectord doctor --json "+args+" 2>/dev/null")
	var r struct {
		Checks []struct{ Check, Level, Found, Advice string }
	}
	if err := json.Unmarshal([]byte(printed), &r); err != nil {
		m.t.Fatalf("%v: %s", err, printed)
	}
	all = checkup{}
	for _, c := range r.Checks {
		all[c.Check] = c
	}
	return all, printed
}

// TestDoctorChecksFromInsideTheService checks that the doctor has the service's credentials,
// user, environment and sandbox.
func TestDoctorChecksFromInsideTheService(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.write("/etc/collectord/keys", "[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
	if err := os.Chmod(filepath.Join(m.root, "/etc/collectord/keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.write("/etc/systemd/system/collectord.service.d/own.conf", `[Service]
LoadCredential=s3-credentials:/etc/collectord/keys
Environment=COLLECTORD_NODE=from-the-unit
Environment=COLLECTORD_SHIPPER_DESTINATION=s3://usages/p COLLECTORD_SHIPPER_S3_ENDPOINT=http://127.0.0.1:1 COLLECTORD_SHIPPER_S3_REGION=x
`)
	m.install(earlier)
	m.awaitState("active")
	found, printed := m.doctor("")
	for name, want := range map[string][2]string{
		"process.surroundings":              {"ok", "checked inside the service (process "},
		"process.user":                      {"ok", "checked as user collectord"},
		"config.destination":                {"ok", "s3://usages/p"},
		"ports.http.listen":                 {"ok", "the running daemon has it"},
		"ports.udp.listen":                  {"ok", "the running daemon has it"},
		"files.shipper.s3.credentials_file": {"ok", "/run/credentials/collectord.service/s3-credentials"},
		"data_dir.directory":                {"ok", "/var/lib/collectord belongs to user collectord, mode 0750"},
		"data_dir.fsync":                    {"ok", "median"},
		"log.daemon":                        {"ok", "a daemon is running"},
		"kernel.open_files":                 {"ok", ""},
		"storage.connection":                {"error", "connection refused"},
		"clock.build":                       {"ok", ""},
	} {
		if c := found[name]; c.Level != want[0] && name != "data_dir.fsync" && name != "kernel.open_files" || !strings.Contains(c.Found, want[1]) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if t.Failed() {
		t.Log(printed)
	}
	if exit := m.shell("collectord doctor --json >/dev/null 2>&1; echo $?"); exit != "2" {
		t.Errorf("exit status %s", exit)
	}
	if log := m.shell("journalctl --unit collectord --output cat"); !strings.Contains(log, `"trouble":"storage_check"`) || !strings.Contains(log, `"step":"connection"`) {
		t.Errorf("the journal: %s", log)
	}
	// The doctor checks a new configuration in the service's sandbox.
	m.write("/etc/collectord/new.yaml", "data_dir: /home/usages\nhttp: {listen: 'localhost:3000'}\n")
	if found, printed := m.doctor("--config /etc/collectord/new.yaml"); found["config.data_dir"].Level != "error" {
		t.Errorf("below ProtectHome=: %s", printed)
	}

	m.do("systemctl", "stop", "collectord")
	found, printed = m.doctor("")
	for name, want := range map[string][2]string{
		"process.surroundings": {"warning", "the service is not running"},
		"process.user":         {"ok", "checked as user collectord, the owner of data_dir"},
		"ports.http.listen":    {"ok", "is free"},
		"log.daemon":           {"ok", "no daemon is running"},
		"kernel.service":       {"unchecked", "the daemon is not running"},
	} {
		if c := found[name]; c.Level != want[0] || !strings.Contains(c.Found, want[1]) {
			t.Errorf("stopped: %s: %+v in %s", name, c, printed)
		}
	}
	// This is the command of docs/doctor.md.
	output := m.shell(`systemd-run --pipe --wait --quiet --collect --property=User=collectord \
		--property=LoadCredential=s3-credentials:/etc/collectord/keys --setenv=COLLECTORD_SHIPPER_DESTINATION=s3://usages/p \
		--setenv=COLLECTORD_SHIPPER_S3_ENDPOINT=http://127.0.0.1:1 --setenv=COLLECTORD_SHIPPER_S3_REGION=x /usr/bin/collectord doctor 2>&1 || true`)
	if !strings.Contains(output, "s3-credentials can be read") || !strings.Contains(output, "checked as user collectord") {
		t.Errorf("by systemd-run: %s", output)
	}
}
