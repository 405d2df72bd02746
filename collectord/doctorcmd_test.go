package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/doctor"
	"collectord/shipper/bucket/s3test"
)

// TestNamesOfChecksAreStable compares the names of all checks with the documented ones,
// which programs rely on. A daemon with everything configured runs and has the ports.
func TestNamesOfChecksAreStable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fake := fakeStorage(t, s3test.Behaviour{})
	writeKeys(t, dir)
	writeWithDirs(t, dir+"/tokens", []byte(oneToken))
	config, port, admin := configure(t, dir, storageSettings(fake, dir))
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, strings.Replace(string(text), "http: {", "http: {tokens_file: "+dir+"/tokens, ", 1))
	d := start(t, config, port, admin)
	out, stderr, status := runCollectord(t, "doctor", "--here", "--json", "--config", config)
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 {
		t.Fatalf("exit status %d, %v: %s %s", status, err, out, stderr)
	}
	var names []string
	for _, c := range r.Checks {
		if strings.HasPrefix(c.Name, "ports.") && !strings.Contains(c.Found, fmt.Sprintf("the running daemon has it (process %d)", d.cmd.Process.Pid)) {
			t.Errorf("%+v", c)
		}
		if c.Name != "config.warning" {
			names = append(names, c.Name)
		}
	}
	want := strings.Fields(`process.user
		config.valid config.http_clients config.udp_clients config.destination config.waiting config.durability
		ports.http.listen ports.udp.listen ports.admin.listen
		files.http.tokens_file files.shipper.s3.credentials_file
		data_dir.directory data_dir.file_system data_dir.space data_dir.inodes data_dir.quota data_dir.fsync
		log.daemon log.segments log.oldest log.put_aside
		kernel.open_files kernel.receive_buffer kernel.backlog kernel.memory
		storage.name storage.connection storage.tls storage.answer storage.credentials storage.bucket storage.put
		storage.conditional_put storage.checksum storage.encryption storage.storage_class storage.read storage.metadata storage.list
		clock.storage clock.build clock.newest_record clock.ntp`)
	if !slices.Equal(names, want) {
		t.Errorf("the checks are\n%s\nwant\n%s", strings.Join(names, " "), strings.Join(want, " "))
	}
	if c := r.Checks[slices.Index(names, "log.daemon")]; c.Level != doctor.OK {
		t.Errorf("%+v", c)
	}
	other := "file://" + dir + "/other"
	out, _, status = runCollectord(t, "doctor", "--here", "--config", config, "--destination", other)
	if want := fmt.Sprintf("the running daemon (process %d) ships to s3://", d.cmd.Process.Pid); status != 0 || !strings.Contains(out, want) || !strings.Contains(out, "and this configuration names "+other) {
		t.Errorf("with another destination than the daemon's: exit status %d, %s", status, out)
	}
	if i := slices.IndexFunc(s3test.Tree(t, filepath.Join(dir, "data")), func(name string) bool { return strings.Contains(name, "doctor") }); i >= 0 {
		t.Error("the doctor left a file in data_dir")
	}
	d.stop()
}

// TestTheLogIsChecked has a row for each state of the daemon and of its log.
func TestTheLogIsChecked(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	for what, c := range map[string]struct {
		log   logState
		name  string
		level doctor.Level
		text  string
	}{
		"running":          {logState{live: true, process: "7"}, "log.daemon", doctor.OK, "process 7"},
		"not running":      {logState{}, "log.daemon", doctor.OK, "no daemon"},
		"empty":            {logState{live: true}, "log.oldest", doctor.OK, "no segment"},
		"new":              {logState{live: true, sealed: 1, oldest: now.Add(-time.Hour)}, "log.oldest", doctor.OK, "1h0m0s old"},
		"old":              {logState{live: true, sealed: 1, oldest: now.Add(-66 * time.Minute)}, "log.oldest", doctor.Warning, "1h6m0s"},
		"not shipped":      {logState{sealed: 1, oldest: now.Add(-time.Second)}, "log.oldest", doctor.Warning, "no daemon is running"},
		"can't be read":    {logState{unread: 2}, "log.unread", doctor.Error, "2 parts"},
		"nothing is aside": {logState{}, "log.put_aside", doctor.OK, "nothing"},
	} {
		checks := c.log.checks(5*time.Minute, now)
		i := slices.IndexFunc(checks, func(d doctor.Check) bool { return d.Name == c.name })
		if i < 0 || checks[i].Level != c.level || !strings.Contains(checks[i].Found, c.text) {
			t.Errorf("%s: %+v", what, checks)
		}
	}
}

// TestAuthoritiesAreChecked accepts expired authorities among valid ones.
func TestAuthoritiesAreChecked(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	past, soon, later := now.Add(-time.Hour), now.Add(24*time.Hour), now.Add(100*24*time.Hour)
	for what, c := range map[string]struct {
		ends []time.Time
		want doctor.Level
	}{
		"one is valid":                    {[]time.Time{later}, doctor.OK},
		"one expires soon":                {[]time.Time{soon}, doctor.Warning},
		"one has expired":                 {[]time.Time{past}, doctor.Error},
		"all have expired":                {[]time.Time{past, past.Add(-time.Hour)}, doctor.Error},
		"one of two has expired":          {[]time.Time{past, later}, doctor.Warning},
		"both are valid":                  {[]time.Time{later, later.Add(time.Hour)}, doctor.OK},
		"the only valid one expires soon": {[]time.Time{past, soon}, doctor.Warning},
	} {
		if got := authoritiesCheck("files.x", "/x", c.ends, now); got.Level != c.want {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// TestTheDoctorDoesNotWaitForADiskThatHangs covers data_dir and a destination folder.
func TestTheDoctorDoesNotWaitForADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan struct{})
		defer close(answers)
		if _, answered := withDiskTimeout(func() error { <-answers; return nil }); answered {
			t.Error("a disk that hangs was measured")
		}
		if n, answered := withDiskTimeout(func() int { time.Sleep(9 * time.Second); return 7 }); n != 7 || !answered {
			t.Error("a slow disk was not measured")
		}
	})
	x := checkRun{log: logState{err: errors.New(noAnswerText("/data"))}}
	if c := x.logChecks()[0]; c.Level != doctor.Error || c.Found != "the disk of /data did not answer within 10s" {
		t.Errorf("%+v", c)
	}
}
