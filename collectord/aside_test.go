package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"collectord/collectord/testrun"
	"collectord/wal"
)

// makeWholeData makes a data directory with the usages 0 to 6, as a crash leaves it.
func makeWholeData(t *testing.T, data string) {
	t.Helper()
	testrun.WaitPastHourEnd()
	made := filepath.Join(t.TempDir(), "data")
	log, err := wal.Open(made, wal.Options{Node: "edge-1", SegmentSize: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for i := range 7 {
		if err = log.Append(t.Context(), wal.Record{Usage: fmt.Appendf(nil, `{"patientId":"%d"}`, i)}); err == nil && i%2 == 1 {
			err = log.Seal(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(data, os.DirFS(made)); err != nil {
		t.Fatal(err)
	}
}

// makeDamagedData makes a data directory with the usages 0 to 6, and with foreign or
// damaged files in several places. Usages 2 and 3 can't be read.
func makeDamagedData(t *testing.T, dir string) {
	t.Helper()
	makeWholeData(t, filepath.Join(dir, "data"))
	in := func(name string) string { return filepath.Join(dir, "data", "wal", name) }
	var err error
	for _, name := range []string{"LOG", "next", "lost", "00000000000000000003-00000000000000000004/00000000000000000001"} {
		err = errors.Join(err, os.RemoveAll(in(name)))
	}
	err = errors.Join(err, os.Mkdir(in("LOG"), 0o700), os.WriteFile(in("next"), []byte("x"), 0o600), unix.Mkfifo(in("lost"), 0o600),
		unix.Mkfifo(in("00000000000000000003-00000000000000000004/00000000000000000001"), 0o600), os.WriteFile(filepath.Join(dir, "data", "spool"), []byte("x"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

func TestRepairAndShipSkipWhatCantBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, _, _ := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\n")
	makeDamagedData(t, dir)
	if out := strings.Join(mustRunWal(t, 0, config, "ls"), "\n"); strings.Count(out, "\nsealed ") != 3 {
		t.Errorf("ls: %s", out)
	}
	if out := strings.Join(mustRunWal(t, 2, config, "verify"), "\n"); strings.Count(out, "\nok ") != 2 || !strings.Contains(out, "not a regular file") {
		t.Errorf("verify: %s", out)
	}
	if out := strings.Join(mustRunWal(t, 2, config, "cat"), "\n"); strings.Count(out, "patientId") != 5 {
		t.Errorf("cat: %s", out)
	}
	mustRunWal(t, 0, config, "repair")
	if out, stderr, status := runCollectord(t, "ship", "--config", config); status != 0 || !strings.Contains(out, "shipped 5 records") || !strings.Contains(out, "put aside") {
		t.Errorf("ship exits with %d: %s%s", status, out, stderr)
	}
}

func TestAsideSegmentsAreReportedUntilAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\nshutdown: {grace: 0s}\n")
	makeDamagedData(t, dir)
	verbose := func() string {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz?verbose", admin))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("readyz: %d, %v", answer.StatusCode, err)
		}
		return string(body)
	}
	for range 2 { // also after a restart
		d := start(t, config, port, admin)
		if m := d.metrics(); m["collectord_wal_put_aside"] < 3 {
			t.Errorf("%v files are put aside", m["collectord_wal_put_aside"])
		}
		if body := verbose(); !strings.Contains(body, "next") || !strings.Contains(body, "LOG") {
			t.Errorf("readyz?verbose: %s", body)
		}
		d.stop()
	}
	d := start(t, config, port, admin)
	if out := strings.Join(mustRunWal(t, 0, config, "ls"), "\n"); !strings.Contains(out, "wal acknowledge") || !strings.Contains(out, "wal/quarantine/next-") {
		t.Errorf("ls: %s", out)
	}
	if out := strings.Join(mustRunWal(t, 0, config, "acknowledge"), "\n"); strings.Count(out, "acknowledged ") < 3 {
		t.Errorf("acknowledge: %s", out)
	}
	until(t, "no file is put aside any more, without a restart", func() bool { return d.metrics()["collectord_wal_put_aside"] == 0 })
	for range 2 { // also after a restart
		if body := verbose(); strings.Contains(body, "quarantine") {
			t.Errorf("readyz?verbose: %s", body)
		}
		d.stop()
		d = start(t, config, port, admin)
	}
	if out := strings.Join(mustRunWal(t, 0, config, "acknowledge"), "\n"); !strings.Contains(out, "nothing is put aside") {
		t.Errorf("acknowledge: %s", out)
	}
	d.stop()
}

func TestTheDaemonStartsOnADiskThatFailsAndAnswers503(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0, probe_min: 10ms, probe_max: 50ms}\nshutdown: {grace: 0s}\n")
	elsewhere := filepath.Join(dir, "elsewhere")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "data"), 0o700), os.Symlink(elsewhere, filepath.Join(dir, "data", "wal"))); err != nil {
		t.Fatal(err)
	}
	d := start(t, config, port, admin)
	post := func() int {
		answer, err := http.Post(d.url(), "application/json", strings.NewReader(`{"patientId":"1"}`))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if status := post(); status != http.StatusServiceUnavailable {
		t.Errorf("status %d while the log's disk is missing", status)
	}
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", admin))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "wal") {
		t.Errorf("readyz: %d %s, %v", answer.StatusCode, body, err)
	}
	if err := os.Mkdir(elsewhere, 0o700); err != nil {
		t.Fatal(err)
	}
	until(t, "the log has started by itself", func() bool { return post() == http.StatusCreated })
	d.stop()
}

// TestTheDaemonShipsWhateverHasTheNameOfNotesOrScratch puts unusable entries in the places of the
// loss notes, the identity and the spool.
func TestTheDaemonShipsWhateverHasTheNameOfNotesOrScratch(t *testing.T) {
	t.Parallel()
	link := func(place, to string) func(data string) error {
		return func(data string) error {
			path := filepath.Join(data, place)
			return errors.Join(os.RemoveAll(path), os.Symlink(to, path))
		}
	}
	closed := func(place string) func(data string) error {
		return func(data string) error {
			path := filepath.Join(data, place)
			if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			return os.Chmod(path, 0)
		}
	}
	for _, c := range []struct {
		name     string
		spoil    func(data string) error
		putAside string // pattern of the path of what the log puts aside
	}{
		{"the loss notes are a link to itself", link("wal/lost", "lost"), ""},
		{"the loss notes are a link to a file", link("wal/lost", "../LOCK"), ""},
		{"the loss notes can't be listed", closed("wal/lost"), ""},
		{"the identity can't be read", func(data string) error { return os.Chmod(filepath.Join(data, "wal", "LOG"), 0) }, "wal/quarantine/LOG-*"},
		{"the spool is a link to itself", link("spool", "spool"), "wal/quarantine/spool-*"},
		{"the spool is a link to a file", link("spool", "LOCK"), "wal/quarantine/spool-*"},
		{"the spool can't be used", closed("spool"), "spool.aside-*"},
		{"the spool can't be listed", func(data string) error {
			return errors.Join(os.MkdirAll(filepath.Join(data, "spool"), 0o700), os.Chmod(filepath.Join(data, "spool"), 0o300))
		}, "wal/quarantine/spool-*"},
		{"an object of the spool is a directory", func(data string) error {
			return os.MkdirAll(filepath.Join(data, "spool", "00000000000000000003-00000000000000000004.ndjson.zst", "x"), 0o700)
		}, ""},
		{"an object of the spool is a FIFO", func(data string) error {
			return errors.Join(os.MkdirAll(filepath.Join(data, "spool"), 0o700), unix.Mkfifo(filepath.Join(data, "spool", "00000000000000000003-00000000000000000004.ndjson.zst"), 0o600))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "collectord-test-") // other users can enter it
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\nshutdown: {grace: 0s}\n")
			data := filepath.Join(dir, "data")
			makeWholeData(t, data)
			path, errBinary := binary()
			run := exec.Command(path, "run", "--config", config)
			err = errors.Join(errBinary, c.spoil(data))
			if os.Geteuid() == 0 { // root could read everything
				err = errors.Join(err, os.Chmod(filepath.Dir(path), 0o755), filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
					return errors.Join(err, os.Lchown(path, 65534, 65534))
				}))
				run.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			if err != nil {
				t.Fatal(err)
			}
			d := startCommand(t, run, port, admin)
			until(t, "all usages are shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] == 7 })
			d.stop()
			found, err := filepath.Glob(filepath.Join(data, c.putAside))
			if c.putAside != "" && (err != nil || len(found) != 1) {
				t.Errorf("put aside: %q, %v", found, err)
			}
		})
	}
}

func TestShipLeavesWhatAnotherUserOwnsAndShipsTheRest(t *testing.T) {
	t.Parallel()
	root := os.Geteuid() == 0                        // without root, a file mode simulates another owner
	dir, err := os.MkdirTemp("", "collectord-test-") // other users can enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config, _, _ := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\n")
	makeDamagedData(t, dir)
	if root {
		err = filepath.WalkDir(filepath.Join(dir, "data"), func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, 65534, 65534))
		})
	}
	segment := filepath.Join(dir, "data", "wal", "00000000000000000001-00000000000000000002")
	if root {
		err = errors.Join(err, os.Chmod(dir, 0o755), os.Lchown(segment, 0, 0), os.Chmod(segment, 0o700))
	} else {
		err = os.Chmod(segment, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, stderr, status := runCollectord(t, "ship", "--config", config)
	if status != 2 || !strings.Contains(out, "shipped 3 records") || !strings.Contains(stderr, "1 range that can't be read") {
		t.Errorf("ship exits with %d: %s%s", status, out, stderr)
	}
	if root {
		err = os.Lchown(segment, 65534, 65534)
	} else {
		err = os.Chmod(segment, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, stderr, status := runCollectord(t, "ship", "--config", config); status != 0 || !strings.Contains(out, "shipped 2 records") {
		t.Errorf("ship exits with %d after the owner was corrected: %s%s", status, out, stderr)
	}
}
