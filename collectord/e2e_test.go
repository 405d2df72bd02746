package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"collectord/collectord/testrun"
	"collectord/collectord/usage"
	"collectord/shipper/bucket"
)

const testUser, testSecret = "collectord-test", "collectord-test-secret"

// startMinIO runs a real MinIO and returns the settings for a bucket in it.
func startMinIO(t *testing.T, dir string) (settings string) {
	t.Helper()
	settings, _ = startMinIOToKill(t, dir)
	return settings
}

// startMinIOToKill does the same as startMinIO, and also returns the process.
func startMinIOToKill(t *testing.T, dir string) (settings string, process *os.Process) {
	t.Helper()
	path := os.Getenv("TEST_MINIO")
	if path == "" {
		if cache, err := os.UserCacheDir(); err == nil {
			path = filepath.Join(cache, "collectord-tools", "bin", "minio")
		}
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("ALLOW_MISSING") == "1" {
			t.Skipf("no MinIO at %s, and ALLOW_MISSING=1 is set", path)
		}
		t.Fatalf("no MinIO at %s: run make tools, or set ALLOW_MISSING=1 to skip this proof", path)
	}
	// A folder that exists when MinIO starts is a bucket.
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, "usages"), 0o750); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	cmd := exec.Command(path, "server", "--quiet", "--address", addr, data)
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+testUser, "MINIO_ROOT_PASSWORD="+testSecret, "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	credentials := filepath.Join(dir, "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", testUser, testSecret)
	if err := os.WriteFile(credentials, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// MinIO reports that it is ready slightly before it serves every call. If a daemon's first
	// call failed, the daemon would wait for long.
	store, err := bucket.Open(bucket.Destination{URL: "s3://usages/ready", S3: bucket.S3Options{Endpoint: "http://" + addr, Region: "us-east-1", CredentialsFile: credentials}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "MinIO stores an object", func() bool {
		err := store.Put(t.Context(), bucket.NewObject("x", nil))
		return err == nil || errors.Is(err, bucket.ErrExists)
	})
	settings = fmt.Sprintf("destination: s3://usages/prod\n  keep: 200ms\n  s3: {endpoint: 'http://%s', credentials_file: %s, region: us-east-1}", addr, credentials)
	return settings, cmd.Process
}

// destinations returns a folder and a bucket in a real MinIO.
func destinations() map[string]func(t *testing.T, dir string) string {
	return map[string]func(t *testing.T, dir string) string{
		"folder": func(_ *testing.T, dir string) string { return "destination: file://" + dir + "/archive" },
		"MinIO":  startMinIO,
	}
}

// storedRecord is a line of an object.
type storedRecord struct {
	ID, Via string
	Usage   struct {
		N   int
		Via string
	}
}

// storeOf opens the storage of a configuration without the daemon.
func storeOf(t *testing.T, config string) bucket.Store {
	t.Helper()
	c := catCommand()
	c.Flags().String("config", config, "")
	cfg, err := settings(c)
	if err != nil {
		t.Fatal(err)
	}
	store, err := bucket.Open(destination(cfg, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// download reads every object.
func download(t *testing.T, config string) (records []storedRecord, objects int) {
	t.Helper()
	store, ctx := storeOf(t, config), context.Background()
	for key, err := range store.List(ctx, "dt=") {
		if err != nil {
			t.Fatal(err)
		}
		objects++
		body, stored, err := store.Open(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := bucket.NewReader(body, stored.Size)
		if err != nil {
			t.Fatal(err)
		}
		for {
			line, err := lines.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(key, err)
			}
			var r storedRecord
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%s: %v: %s", key, err, line)
			}
			records = append(records, r)
		}
		lines.Close()
		body.Close()
	}
	return records, objects
}

// verifyAcknowledged asserts that each acknowledged usage is stored exactly once, with the
// id of its answer, and no usage twice. It returns the number of usages from UDP.
func verifyAcknowledged(t *testing.T, acks *acknowledged, records []storedRecord) (udp int) {
	t.Helper()
	seen := map[int]bool{}
	ids := map[string]bool{}
	for _, r := range records {
		if seen[r.Usage.N] || ids[r.ID] {
			t.Errorf("usage %d (%s) is stored twice", r.Usage.N, r.ID)
		}
		seen[r.Usage.N], ids[r.ID] = true, true
		if r.Via != r.Usage.Via {
			t.Errorf("usage %d came by %s, stored as %s", r.Usage.N, r.Usage.Via, r.Via)
		}
		if r.Via == "udp" {
			udp++
			continue
		}
		if id, ok := acks.ids[r.Usage.N]; ok && id != r.ID {
			t.Errorf("usage %d is stored as %s, but was acknowledged as %s", r.Usage.N, r.ID, id)
		}
	}
	for n, id := range acks.ids {
		if !seen[n] {
			t.Errorf("usage %d was acknowledged as %s and is not stored", n, id)
		}
	}
	return udp
}

func TestEveryUsageIsInTheStorageExactlyOnce(t *testing.T) {
	n := 10_000 / testrun.OneIn(8)
	for name, destination := range destinations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\nshipper:\n  "+destination(t, dir)+"\n")
			d := start(t, config, port, admin)
			acks := &acknowledged{ids: map[int]string{}}
			posted := make(chan struct{})
			go func() { defer close(posted); d.post(acks, 0, n, 64, false) }()
			d.send(n, 2*n)
			<-posted
			d.stop()
			records, objects := download(t, config)
			udp := verifyAcknowledged(t, acks, records)
			t.Logf("%d acknowledged, %d records (%d by UDP) in %d objects", len(acks.ids), len(records), udp, objects)
			if len(acks.ids) != n || udp != n || len(records) != 2*n {
				t.Errorf("%d acknowledged, %d by UDP, %d records in all", len(acks.ids), udp, len(records))
			}
		})
	}
}

var killRounds = flag.Int("kills", 10/testrun.OneIn(5), "how often the daemon is killed, for each destination")

func TestKilledDaemonLosesNothingAcknowledgedAndDoublesNothing(t *testing.T) {
	const n = 3_000 // usages a round
	for name, destination := range destinations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, seal_after: 200ms, min_free: 0}\nshipper:\n  "+destination(t, dir)+"\n")
			acks := &acknowledged{ids: map[int]string{}}
			for round := range *killRounds {
				d := start(t, config, port, admin)
				killAt := acks.count() + rand.IntN(n*2/3)
				posted := make(chan struct{})
				go func() { defer close(posted); d.post(acks, round*n, (round+1)*n, 64, true) }()
				until(t, "enough usages are acknowledged", func() bool { return acks.count() >= killAt })
				d.kill()
				<-posted
			}
			d := start(t, config, port, admin)
			d.post(acks, *killRounds*n, *killRounds*n+100, 8, false)
			d.stop()
			records, objects := download(t, config)
			verifyAcknowledged(t, acks, records)
			t.Logf("%d kills, %d acknowledged, %d records in %d objects", *killRounds, acks.count(), len(records), objects)
		})
	}
}

func TestSIGUSR1ShipsWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {seal_after: 1h}\n")
	d := start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 10, 2, false)
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	until(t, "all is shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] == 10 })
	records, objects := download(t, config)
	verifyAcknowledged(t, acks, records)
	if objects != 1 {
		t.Errorf("%d objects, want 1", objects)
	}
	d.stop()
}

func TestBadConfigurationStartsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, _, _ := configure(t, dir, "wal: {segmentsize: 1MiB}\n")
	out, err := command(t, "run", "--config", config).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitBadConfig ||
		!strings.Contains(string(out), "wal.segmentsize") || !strings.Contains(string(out), "the nearest is wal.segment_size") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory was made: %v", err)
	}
}

func TestAPortInUseIsNamedAndItsHolderUnharmed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	d := start(t, config, port, admin)
	fails := func(status int, what string, args ...string) {
		t.Helper()
		out, err := command(t, append([]string{"run", "--config", config}, args...)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != status || !strings.Contains(string(out), what) {
			t.Errorf("%v: %s", err, out)
		}
	}
	ports := freePorts(t, 2)
	other := fmt.Sprintf("127.0.0.1:%d", ports[0])
	otherAdmin := fmt.Sprintf("127.0.0.1:%d", ports[1])
	fails(exitError, "http.listen: listen tcp", "--data-dir", t.TempDir())
	fails(exitError, "udp.listen: listen udp", "--data-dir", t.TempDir(), "--http-listen", other, "--admin-listen", otherAdmin)
	fails(exitError, "in use by another collectord", "--http-listen", other, "--udp-listen", other, "--admin-listen", otherAdmin)
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(exitBadConfig, "is not a directory", "--data-dir", blocked, "--http-listen", other, "--udp-listen", other, "--admin-listen", otherAdmin)

	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 10, 2, false)
	d.stop()
	records, _ := download(t, config)
	verifyAcknowledged(t, acks, records)
}

func TestBadInputIsAnsweredCountedAndNeverStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "http: {listen: '127.0.0.1:PORT', max_record: 1KiB}\n")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	kept := lines[:0]
	for _, l := range lines {
		if !strings.HasPrefix(l, "http: {listen: '127.0.0.1:") || strings.Contains(l, "PORT") {
			kept = append(kept, strings.ReplaceAll(l, "PORT", fmt.Sprint(port)))
		}
	}
	if err := os.WriteFile(config, []byte(strings.Join(kept, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, config, port, admin)
	bodies := map[string]string{
		usage.CodeInvalidJSON: `{"secret-name":`, usage.CodeNotAnObject: `["secret"]`, usage.CodeEmpty: " ",
		usage.CodeDuplicateName: `{"a":1,"a":2}`, usage.CodeInvalidUTF8: "{\"a\":\"\xff\"}",
		usage.CodeTooDeep: strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), usage.CodeNumberRange: `{"a":18446744073709551616}`,
		usage.CodeTooLarge: `{"a":"` + strings.Repeat("x", 2000) + `"}`,
	}
	for code, body := range bodies {
		resp, err := http.Post(d.url(), "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		var p struct{ Code string }
		if err := json.Unmarshal(answer, &p); err != nil || p.Code != code || resp.Header.Get("Content-Type") != "application/problem+json" || strings.Contains(string(answer), "secret") {
			t.Errorf("%s: %s %s", code, resp.Status, answer)
		}
	}
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", d.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	until(t, "the datagram is counted", func() bool {
		return d.metrics()[`collectord_usages_rejected_total{reason="invalid_json",source="udp"}`] == 1
	})
	m := d.metrics()
	for code := range bodies {
		if m[fmt.Sprintf(`collectord_usages_rejected_total{reason=%q,source="http"}`, code)] != 1 {
			t.Errorf("%s is not counted exactly once", code)
		}
	}
	d.stop()
	if records, _ := download(t, config); len(records) > 0 {
		t.Errorf("stored: %v", records)
	}
	if strings.Contains(d.log(), "secret") {
		t.Errorf("the daemon logs a payload:\n%s", d.log())
	}
}
