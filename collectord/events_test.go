//go:build torture

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/docs"
	"collectord/shipper/bucket"
	"collectord/shipper/bucket/storages"
)

const eventsToken = "a-token-of-the-test"

// eventsBlock returns the only block of shell commands in docs/compaction.md that contains
// word. It replaces old texts with new ones, in pairs, as a user would.
func eventsBlock(t *testing.T, word string, change ...string) string {
	t.Helper()
	block, err := docs.Block("compaction.md", "sh", word)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(change...).Replace(block)
}

// receiver runs packaging/events/events.py with the command of docs/compaction.md.
type receiver struct {
	t                        *testing.T
	python, state, log, port string
	endpoint                 string // of MinIO
	docs                     string // the command in docs/compaction.md
	cmd                      *exec.Cmd
}

// run returns the command of docs/compaction.md with more arguments.
func (r *receiver) run(args ...string) *exec.Cmd {
	cmd := exec.Command("bash", "-ec", r.docs+strings.Join(args, " "))
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Dir = ".."
	return cmd
}

// start starts the receiver and waits until it accepts notifications.
func (r *receiver) start(args ...string) {
	r.t.Helper()
	out, err := os.Create(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	r.cmd = r.run(args...)
	r.cmd.Stderr = out
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	until(r.t, "the receiver listens", func() bool { text, _ := os.ReadFile(r.log); return bytes.Contains(text, []byte("listening on")) })
}

func (r *receiver) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// written returns how many bytes the receiver has written.
func (r *receiver) written() (n int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", r.cmd.Process.Pid))
	if err == nil {
		_, err = fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", new(int), &n)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// rows returns the result of a query to the receiver's database.
func (r *receiver) rows(query string) (rows [][]any) {
	r.t.Helper()
	const program = `import json, sqlite3, sys; print(json.dumps(sqlite3.connect(sys.argv[1], timeout=60).execute(sys.argv[2]).fetchall()))`
	out, err := exec.Command(r.python, "-c", program, r.state, query).Output()
	if err == nil {
		err = json.Unmarshal(out, &rows)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return rows
}

// in returns the number of objects in a state.
func (r *receiver) in(state string) int {
	return int(r.rows("SELECT count(*) FROM objects WHERE state = '" + state + "'")[0][0].(float64))
}

// post sends a body to the receiver. It returns the status of the answer, or 0 if the
// connection broke.
func (r *receiver) post(token string, body []byte) int {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:"+r.port+"/", bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Log(err)
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// notification returns the body that MinIO posts for a key.
func notification(bucket, key string) []byte {
	text, _ := json.Marshal(map[string]any{"EventName": "s3:ObjectCreated:Put", "Key": bucket + "/" + key, "Records": []any{map[string]any{
		"eventName": "s3:ObjectCreated:Put",
		"s3":        map[string]any{"bucket": map[string]any{"name": bucket}, "object": map[string]any{"key": url.QueryEscape(key)}},
	}}})
	return text
}

// handled compares the usages in the receiver's database with those that cat prints, byte
// for byte.
func (r *receiver) handled(config, what string) {
	r.t.Helper()
	sent := map[string]string{}
	for line := range strings.Lines(mustRun(r.t, "cat", "--config", config)) {
		var record struct {
			ID    string
			Usage json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			r.t.Fatal(err)
		}
		sent[record.ID] = string(record.Usage)
	}
	rows := r.rows("SELECT id, usage FROM usages")
	counts := r.rows("SELECT total(records), total(known) FROM objects")[0]
	missing := len(sent)
	for _, row := range rows {
		if usage, there := sent[row[0].(string)]; !there || usage != row[1] {
			r.t.Errorf("%v: sent %s, handled %v", row[0], usage, row[1])
		} else {
			missing--
		}
	}
	r.t.Logf("%s: records in %d, ids out %d, doubled %v, missing %d", what, len(sent), len(rows), counts[1], missing)
	if missing != 0 || counts[1] != 0.0 || counts[0] != float64(len(sent)) || len(sent) == 0 {
		r.t.Errorf("%d records sent, %v handled, %v of them known already", len(sent), counts[0], counts[1])
	}
}

// newReceiver starts a daemon, and a MinIO with the setup of docs/compaction.md. With queues,
// MinIO keeps notifications that it can't deliver.
func newReceiver(t *testing.T, queues bool) (r *receiver, d *daemon, config string) {
	t.Helper()
	r = &receiver{t: t, python: filepath.Join(storages.Tools(), "readers", "bin", "python"), port: fmt.Sprint(freePorts(t, 1)[0])}
	for _, tool := range []string{r.python, filepath.Join(storages.Tools(), "mc")} {
		if _, err := os.Stat(tool); err != nil {
			skipMissing(t, tool+" (make readers installs it)")
		}
	}
	dir := t.TempDir()
	r.state, r.log = filepath.Join(dir, "events.sqlite"), filepath.Join(dir, "events.log")
	there := "127.0.0.1:" + r.port
	for line := range strings.Lines(eventsBlock(t, "MINIO_NOTIFY_WEBHOOK", "processor.example:8085", there, "TOKEN_OF_16_OR_MORE", eventsToken, "/var/lib/minio-events", dir)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if name = strings.TrimPrefix(name, "export "); ok && (queues || !strings.Contains(name, "QUEUE_DIR")) {
			t.Setenv(name, value)
		}
	}
	settings := startMinIO(t, dir)
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshipper:\n  "+settings+"\n")
	r.endpoint = regexp.MustCompile(`http://[0-9.:]+`).FindString(settings)
	change := []string{
		"http://minio.example:9000", r.endpoint, "KEY SECRET", testUser + " " + testSecret,
		"=KEY", "=" + testUser, "=SECRET", "=" + testSecret, "=TOKEN_OF_16_OR_MORE", "=" + eventsToken,
		"/var/lib/processor/events.sqlite", r.state, "0.0.0.0:8085", there, "python3", "exec " + r.python,
	}
	r.docs = strings.TrimSpace(eventsBlock(t, "events.py", change...)) + " "
	add := exec.Command("bash", "-ec", eventsBlock(t, "mc event add", change...))
	add.Env = append(os.Environ(), "PATH="+storages.Tools()+":"+os.Getenv("PATH"), "HOME="+dir)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(r.kill)
	return r, start(t, config, port, admin), config
}

// object posts usages, and makes the daemon ship them as one object.
func object(t *testing.T, d *daemon, usages int) {
	t.Helper()
	text := strings.Repeat(`,{"n":-0,"one":1E+2,"text":"\u0000,\"usage\":{}}é"},{}`, usages/2)
	resp, err := http.Post(d.url(), "application/json", strings.NewReader("["+text[1:]+"]"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status, err)
	}
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
}

// TestANotificationIsHandledOnceHoweverOftenTheReceiverIsKilled has a MinIO that loses
// notifications while the receiver is down.
func TestANotificationIsHandledOnceHoweverOftenTheReceiverIsKilled(t *testing.T) {
	const kills, usages = 20, 20_000
	r, d, config := newReceiver(t, false)
	early := 0 // kills before the receiver had handled all objects
	for kill := range kills {
		shipped := d.metrics()["collectord_usages_shipped_total"]
		object(t, d, usages)
		until(t, "the object is shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] == shipped+usages })
		r.start("--reconcile", "1s")
		all := fmt.Appendf(nil, `"done": %d,`, kill+1)
		until(t, "the receiver has written enough, or has handled all objects", func() bool {
			log, _ := os.ReadFile(r.log)
			return r.written() > kill*256<<10 || bytes.Contains(log, all)
		})
		r.kill()
		if r.in("done") <= kill {
			early++
		}
	}
	r.start("--reconcile", "1s")
	until(t, "all objects are done", func() bool { return r.in("done") == kills })
	r.handled(config, fmt.Sprintf("%d kills, %d of them before all objects were done", kills, early))
	if r.in("queued")+r.in("failed") != 0 {
		t.Errorf("not done: %v", r.rows("SELECT key, reason FROM objects WHERE state <> 'done'"))
	}
}

// TestANotificationIsNotTrusted sends repeated and invalid notifications. Each object must be
// handled once, unless it is damaged.
func TestANotificationIsNotTrusted(t *testing.T) {
	const objects = 10
	hour := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	r, d, config := newReceiver(t, true)
	// MinIO keeps the first notification until the receiver runs.
	object(t, d, 100)
	untilShipped(t, d)
	r.start("--reconcile", "1h")
	for range objects - 1 {
		object(t, d, 100)
		untilShipped(t, d)
	}
	until(t, "all objects are done", func() bool { return r.in("done") == objects })
	client := &storages.Client{Endpoint: r.endpoint, Region: "us-east-1", Key: testUser, Secret: testSecret}
	keys, err := client.Keys("usages", "prod/dt=")
	if err != nil || len(keys) != objects {
		t.Fatal(keys, err)
	}
	var repeats sync.WaitGroup
	for i := range 5 * objects {
		repeats.Go(func() {
			if status := r.post("Bearer "+eventsToken, notification("usages", keys[i%objects])); status != http.StatusOK {
				t.Errorf("a repeated notification: status %d", status)
			}
		})
	}
	repeats.Wait()

	// These objects have valid names, but their content is damaged or does not match the name.
	good, err := client.Do(http.MethodGet, "/usages/"+keys[0], nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	frame, _ := zstd.NewWriter(nil)
	bad := map[string][]byte{
		"a second frame":    append(slices.Clone(good.Body), good.Body...),
		"a skippable frame": append(slices.Clone(good.Body), "\x50\x2a\x4d\x18\x00\x00\x00\x00"...),
		"a missing end":     good.Body[:len(good.Body)-5],
		"an empty object":   {},
		"not zstd":          []byte("not zstd"),
		"fewer lines":       frame.EncodeAll([]byte(`{"id":"1","received_at":"x","via":"x","client":null,"usage":{}}`+"\n"), nil),
		"other lines":       frame.EncodeAll(bytes.Repeat([]byte("{}\n"), 100), nil),
		"no id":             frame.EncodeAll(bytes.Repeat([]byte(`{"id":null,"received_at":"x","via":"x","client":null,"usage":{}}`+"\n"), 100), nil),
		"an endless line":   frame.EncodeAll(make([]byte, 1<<30), nil),
	}
	seq := uint64(0)
	names := map[string]string{}
	for name, body := range bad {
		k := bucket.Key{Node: "x", LogID: 7, Run: 1, FirstSeq: seq + 1, LastSeq: seq + 100, Hour: bucket.HourOf(hour)}
		seq += 100
		names[k.String()] = name
		if a, err := client.Put("/usages/prod/"+k.String(), body); err != nil || a.Status != http.StatusOK {
			t.Fatal(a, err)
		}
	}
	absent := bucket.Key{Node: "y", LogID: 8, Run: 1, FirstSeq: 1, LastSeq: 1, Hour: bucket.HourOf(hour)}.String()
	names[absent] = "absent"

	for name, c := range map[string]struct {
		token  string
		body   []byte
		status int
	}{
		"no token":           {"", notification("usages", keys[0]), http.StatusUnauthorized},
		"another token":      {"Bearer " + eventsToken[1:], notification("usages", keys[0]), http.StatusUnauthorized},
		"too large":          {"Bearer " + eventsToken, make([]byte, 2<<20), http.StatusRequestEntityTooLarge},
		"not JSON":           {"Bearer " + eventsToken, []byte("x"), http.StatusBadRequest},
		"an array":           {"Bearer " + eventsToken, []byte(`[1]`), http.StatusBadRequest},
		"deep JSON":          {"Bearer " + eventsToken, bytes.Repeat([]byte("["), 1<<20), http.StatusBadRequest},
		"no object":          {"Bearer " + eventsToken, []byte(`{"Records":[{"eventName":"s3:ObjectCreated:Put"}]}`), http.StatusBadRequest},
		"no record":          {"Bearer " + eventsToken, []byte(`{}`), http.StatusOK},
		"another bucket":     {"Bearer " + eventsToken, notification("other", keys[0]), http.StatusOK},
		"another prefix":     {"Bearer " + eventsToken, notification("usages", strings.Replace(keys[0], "prod", "test", 1)), http.StatusOK},
		"a path upwards":     {"Bearer " + eventsToken, notification("usages", strings.Replace(keys[0], "prod/", "prod/../", 1)), http.StatusOK},
		"a heartbeat's key":  {"Bearer " + eventsToken, notification("usages", "prod/_collectord/nodes/edge-1.json"), http.StatusOK},
		"an impossible date": {"Bearer " + eventsToken, notification("usages", "prod/"+strings.Replace(absent, hour.Format("2006-01-02"), "2026-02-30", 1)), http.StatusOK},
		"an absent object":   {"Bearer " + eventsToken, notification("usages", "prod/"+absent), http.StatusOK},
		"a line feed":        {"Bearer " + eventsToken, notification("usages", keys[0]+"\n"), http.StatusOK},
	} {
		// The receiver does not read a body that is too large. So the connection can break before
		// the client has read the answer.
		if status := r.post(c.token, c.body); status != c.status && (status != 0 || c.status != http.StatusRequestEntityTooLarge) {
			t.Errorf("%s: status %d, not %d", name, status, c.status)
		}
	}
	until(t, "the damaged and absent objects are reported", func() bool { return r.in("failed") == len(names) })
	for _, row := range r.rows("SELECT key, state, reason FROM objects WHERE state <> 'done'") {
		t.Logf("%s: %v", names[row[0].(string)], row[2])
		if names[row[0].(string)] == "" || row[2] == "" {
			t.Errorf("not done: %v", row)
		}
	}
	r.kill()

	// cat reads all objects, so the damaged ones are deleted first.
	for key := range names {
		if key != absent {
			if a, err := client.Do(http.MethodDelete, "/usages/prod/"+key, nil, nil, nil); err != nil || a.Status/100 != 2 {
				t.Fatal(a, err)
			}
		}
	}
	r.handled(config, "repeated notifications")

	// The receiver keeps the objects that are younger than --delete-after, the newest one of each
	// log, and those behind a failed one.
	if out, err := r.run("--once", "--keep", "5m", "--delete-after", "1m").CombinedOutput(); err == nil || !strings.Contains(string(out), "--keep") {
		t.Errorf("a --delete-after below --keep is accepted: %v: %s", err, out)
	}
	damaged := bucket.Key{Node: "x", LogID: 7, Run: 2, FirstSeq: 1, LastSeq: 100, Hour: bucket.HourOf(hour)}
	behind := damaged
	behind.FirstSeq, behind.LastSeq = 101, 200
	for key, body := range map[string][]byte{damaged.String(): nil, behind.String(): good.Body} {
		if a, err := client.Put("/usages/prod/"+key, body); err != nil || a.Status != http.StatusOK {
			t.Fatal(a, err)
		}
	}
	for _, c := range []struct {
		after string
		left  int
	}{{"1h", objects + 2}, {"0s", 1 + 2}} {
		// A run deletes while it lists, and handles new objects after that. So only the second
		// run deletes them.
		for range 2 {
			out, err := r.run("--once", "--keep", "0s", "--delete-after", c.after).CombinedOutput()
			if err == nil || err.Error() != "exit status 2" {
				t.Errorf("%v: %s", err, out)
			}
		}
		if keys, err = client.Keys("usages", "prod/dt="); err != nil || len(keys) != c.left {
			t.Errorf("after %s: %d objects are left: %v, %v", c.after, len(keys), keys, err)
		}
	}
}

func TestNotificationRules(t *testing.T) {
	python := filepath.Join(storages.Tools(), "readers", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		skipMissing(t, python+" (make readers installs it)")
	}
	cmd := exec.Command(python, "-m", "unittest", "discover", "-s", "../packaging/events")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
