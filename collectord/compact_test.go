//go:build torture

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
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

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/storages"
)

// These tests run the program of docs/compaction.md on real objects, in a folder and in
// MinIO. Run them with make compaction.

var (
	compactKills = flag.Int("compactkills", 30, "how often the compaction is killed, in a folder and again in MinIO")
	compactRaces = flag.Int("compactraces", 10, "how often several compactions run at once, in a folder and again in MinIO")
	compactBytes = flag.Int64("compactbytes", 2<<30, "bytes of lines in the hour that is larger than memory")
)

// compactPlace has the source of the objects and the destination of the Parquet files.
type compactPlace struct {
	t        *testing.T
	from, to string
	env      []string
	config   string // collectord's configuration file for the objects
	objects  bucket.Store
	parquet  bucket.Store // the storage at to
}

// compactPython returns the interpreter that has DuckDB and boto3.
func compactPython(t *testing.T) string {
	t.Helper()
	python := filepath.Join(storages.Tools(), "compact", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		skipMissing(t, "the compaction (make compaction installs what it needs)")
	}
	return python
}

// compactPlaces calls f with a folder and with a bucket in MinIO.
func compactPlaces(t *testing.T, f func(t *testing.T, p *compactPlace)) {
	compactPython(t)
	for name, settings := range destinations() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := settings(t, dir)
			p := &compactPlace{t: t}
			p.config, _, _ = configure(t, dir, "wal: {min_free: 0}\nshipper:\n  "+text+"\n")
			p.objects = storeOf(t, p.config)
			to := bucket.Destination{URL: "file://" + dir + "/parquet"}
			p.from, p.to = dir+"/archive", dir+"/parquet"
			if endpoint := regexp.MustCompile(`http://[0-9.:]+`).FindString(text); endpoint != "" {
				p.from, p.to = "s3://usages/prod", "s3://usages/parquet"
				p.env = compactEnv(dir, endpoint, testUser, testSecret)
				to = bucket.Destination{URL: p.to, S3: bucket.S3Options{Endpoint: endpoint, Region: "us-east-1", CredentialsFile: filepath.Join(dir, "credentials")}}
			}
			var err error
			if p.parquet, err = bucket.Open(to); err != nil {
				t.Fatal(err)
			}
			f(t, p)
		})
	}
}

func compactEnv(dir, endpoint, user, secret string) []string {
	return append(os.Environ(), "AWS_ENDPOINT_URL="+endpoint, "AWS_ACCESS_KEY_ID="+user, "AWS_SECRET_ACCESS_KEY="+secret,
		"AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "TMPDIR="+dir)
}

func (p *compactPlace) command(args ...string) *exec.Cmd {
	cmd := exec.Command(compactPython(p.t), append([]string{"../packaging/compact/compact.py", "--from", p.from, "--to", p.to}, args...)...)
	cmd.Env = p.env
	return cmd
}

// compact runs the program, which must exit with the given status, and returns its output.
func (p *compactPlace) compact(status int, args ...string) string {
	p.t.Helper()
	out, err := p.command(args...).CombinedOutput()
	var exit *exec.ExitError
	if got := 0; errors.As(err, &exit) || err == nil {
		if exit != nil {
			got = exit.ExitCode()
		}
		if got == status {
			return string(out)
		}
	}
	p.t.Fatalf("compact.py %v: %v, want exit status %d: %s", args, err, status, out)
	return ""
}

// compactRow is a row of a Parquet file.
type compactRow struct {
	Partition, ID, Received, Via, Client, Usage string
}

const compactDump = `
import duckdb, json, sys
for p, i, r, v, c, u in duckdb.sql(f"""SELECT filename, id, strftime(received_at AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ'), via, coalesce(client, ''), usage
        FROM read_parquet('{sys.argv[1]}/**/*.parquet', filename = true, hive_partitioning = false)""").fetchall():
    print(json.dumps([p, i, r, v, c, u]))
`

// rows returns the rows of all Parquet files.
func (p *compactPlace) rows() (rows []compactRow) {
	p.t.Helper()
	dir := p.t.TempDir()
	n := 0
	for key, err := range p.parquet.List(p.t.Context(), "dt=") {
		if err != nil {
			p.t.Fatal(err)
		}
		n++
		body, _, err := p.parquet.Open(p.t.Context(), key)
		if err != nil {
			p.t.Fatal(err)
		}
		path := filepath.Join(dir, key)
		_ = os.MkdirAll(filepath.Dir(path), 0o750)
		file, err := os.Create(path)
		if err == nil {
			_, err = io.Copy(file, body)
		}
		if err = errors.Join(err, file.Close(), body.Close()); err != nil {
			p.t.Fatal(err)
		}
	}
	if n == 0 {
		return nil
	}
	out, err := exec.Command(compactPython(p.t), "-c", compactDump, dir).Output()
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var v []string
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			p.t.Fatal(err)
		}
		partition, _ := strings.CutPrefix(filepath.Dir(v[0]), dir+"/")
		rows = append(rows, compactRow{partition, v[1], v[2], v[3], v[4], v[5]})
	}
	return rows
}

// compactLog stores objects of one host's log, for any hour.
type compactLog struct {
	p    *compactPlace
	node string
	id   uint64
	next uint64
}

var compactNoon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// put stores an object whose records have the given ids. hour is counted from noon. put
// returns the key.
func (l *compactLog) put(hour int, ids []bucket.ID) bucket.Key {
	l.p.t.Helper()
	at := compactNoon.Add(time.Duration(hour) * time.Hour)
	k := bucket.Key{Node: l.node, LogID: l.id, Run: 0xabc, FirstSeq: l.next, LastSeq: l.next + uint64(len(ids)) - 1, Hour: bucket.HourOf(at)}
	l.next += uint64(len(ids))
	var lines []byte
	var encoder bucket.LineEncoder
	for i, id := range ids {
		usage := fmt.Appendf(nil, `{"log":%d,"n":%d}`, l.id, k.FirstSeq+uint64(i))
		if id[6]>>4 == 8 { // a derived id depends on the usage, which is therefore always the same
			usage = fmt.Appendf(nil, `{"id":"%v"}`, id)
		}
		var err error
		lines, err = encoder.Append(lines, &bucket.Record{ID: id, ReceivedAt: at.UnixMicro() + int64(k.FirstSeq)*1000 + int64(i), Via: "http", Client: "ward-1", Usage: usage})
		if err != nil {
			l.p.t.Fatal(err)
		}
	}
	l.p.store(k.String(), compactFrame(l.p.t, lines))
	return k
}

func compactFrame(t *testing.T, lines []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(bucket.Window), zstd.WithEncoderCRC(true))
	if err == nil {
		_, err = w.Write(lines)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (p *compactPlace) store(key string, content []byte) {
	p.t.Helper()
	o := bucket.NewObject(key, content)
	o.Latest = strings.HasPrefix(key, bucket.HeartbeatPrefix)
	if err := p.objects.Put(p.t.Context(), o); err != nil {
		p.t.Fatal(err)
	}
}

// compactIDs returns n ascending ids of a version. As in collectord, ids of version 7 are
// random, and ids of version 8 are derived.
func compactIDs(version byte, from, n int) (ids []bucket.ID) {
	for i := range n {
		id := bucket.ID{6: version << 4, 8: 0x80}
		for at, v := 15, from+i; v > 0; at, v = at-1, v>>8 {
			id[at] = byte(v)
		}
		ids = append(ids, id)
	}
	return ids
}

// compactLedger counts the stored records, and has the ids that the Parquet files must have.
type compactLedger struct {
	p       *compactPlace
	records int
	want    map[string]bool
	next    int
	logs    []*compactLog
}

func newCompactLedger(p *compactPlace) *compactLedger {
	l := &compactLedger{p: p, want: map[string]bool{}}
	for i := range uint64(3) {
		l.logs = append(l.logs, &compactLog{p: p, node: fmt.Sprintf("edge-%d", i), id: i + 1, next: 1})
	}
	return l
}

// add stores an object with n new records in an hour. The object also has some derived ids
// that are in other objects, too.
func (l *compactLedger) add(hour, n int) {
	ids := compactIDs(7, l.next, n)
	ids = append(ids, compactIDs(8, (l.next/n)%7*100, 3)...)
	l.next += n
	l.logs[rand.IntN(len(l.logs))].put(hour, ids)
	l.records += len(ids)
	for _, id := range ids {
		l.want[id.String()] = true
	}
}

// check compares the Parquet files with what was stored.
func (l *compactLedger) check(what string) {
	l.p.t.Helper()
	got := map[string]int{}
	doubled, missing := 0, 0
	for _, r := range l.p.rows() {
		got[r.ID]++
		if got[r.ID] > 1 {
			doubled++
		}
		if !l.want[r.ID] {
			l.p.t.Errorf("a row that was never stored: %+v", r)
		}
	}
	for id := range l.want {
		if got[id] == 0 {
			missing++
		}
	}
	l.p.t.Logf("%s: records in %d, ids in %d, ids out %d, doubled %d, missing %d", what, l.records, len(l.want), len(got), doubled, missing)
	if doubled > 0 || missing > 0 || len(got) != len(l.want) {
		l.p.t.Errorf("%s: doubled %d, missing %d", what, doubled, missing)
	}
}

func TestCompactionEndedAtAnyMomentHasEachIDOnce(t *testing.T) {
	compactPlaces(t, func(t *testing.T, p *compactPlace) {
		l := newCompactLedger(p)
		for i := range 30 {
			l.add(i%3, 50)
		}
		began := time.Now()
		p.compact(0)
		took := time.Since(began) // so that a kill comes at any moment of a run
		killed, rounds := 0, 0
		for ; killed < *compactKills; rounds++ {
			l.add(rand.IntN(3), 50) // also for hours that already have a Parquet file
			cmd := p.command()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			delay := time.AfterFunc(time.Duration(rand.Int64N(int64(took))), func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait()
			delay.Stop()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				killed++
			} else if !cmd.ProcessState.Success() {
				t.Errorf("round %d: %v", rounds, cmd.ProcessState)
			}
		}
		p.compact(0)
		l.check(fmt.Sprintf("%d kills in %d rounds", killed, rounds))
		if out := p.compact(0); !strings.Contains(out, " objects, 0 of them new ") {
			t.Errorf("a repeated run prints %s", out)
		}
		l.check("repeated")
		if left, _ := filepath.Glob(filepath.Join(p.to, "_compact", "tmp", "*")); len(left) > 0 {
			t.Errorf("files with usages are left: %v", left)
		}
	})
}

func TestCompactionsAtOnceHaveEachIDOnce(t *testing.T) {
	compactPlaces(t, func(t *testing.T, p *compactPlace) {
		l := newCompactLedger(p)
		for round := range *compactRaces {
			for range 6 {
				l.add(rand.IntN(3), 50)
			}
			var racing sync.WaitGroup
			for range 2 + round%3 {
				racing.Go(func() {
					if out, err := p.command().CombinedOutput(); err != nil {
						t.Errorf("%v: %s", err, out)
					}
				})
			}
			l.add(rand.IntN(3), 50) // while the compactions run
			racing.Wait()
		}
		p.compact(0)
		l.check(fmt.Sprintf("%d races of 2 to 4 processes", *compactRaces))
	})
}

// usagesToKeep returns oddUsages, and usages with text that looks like the beginning or end of
// a usage in a line. A program must not cut them there.
func usagesToKeep() []string {
	some := []string{`{"usage":{"usage":1},"s":",\"usage\":{"}`, `{"quote":"it's"}`, `{"q":"\"\\/"}`}
	for _, odd := range oddUsages {
		some = append(some, odd.sent...)
	}
	return some
}

func TestCompactionKeepsWhatRealHostsSent(t *testing.T) {
	compactPlaces(t, func(t *testing.T, p *compactPlace) {
		port, admin := 0, 0
		text, err := os.ReadFile(p.config)
		if err != nil {
			t.Fatal(err)
		}
		ports := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindAllSubmatch(text, 3)
		_, _ = fmt.Sscan(string(ports[0][1]), &port)
		_, _ = fmt.Sscan(string(ports[2][1]), &admin)
		d := start(t, p.config, port, admin)
		sent := 0
		for range 3 {
			for _, usage := range usagesToKeep() {
				resp, err := http.Post(d.url(), "application/json", strings.NewReader(usage))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					t.Fatal(resp.Status)
				}
				sent++
			}
			if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			until(t, "the usages are shipped", func() bool { return d.metrics()["collectord_usages_pending"] == 0 })
			p.compact(0)
		}
		d.stop()
		p.compact(0)
		var got []string
		for _, r := range p.rows() {
			client := "null"
			if r.Client != "" {
				client = r.Client
			}
			got = append(got, fmt.Sprintf(`{"id":"%s","received_at":"%s","via":"%s","client":%s,"usage":%s}`, r.ID, r.Received, r.Via, client, r.Usage))
		}
		var want []string
		for line := range strings.Lines(mustRun(t, "cat", "--config", p.config)) {
			want = append(want, strings.TrimSuffix(line, "\n"))
		}
		slices.Sort(got)
		slices.Sort(want)
		if len(want) != sent || !slices.Equal(got, want) {
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Errorf("got %.300s\nwant %.300s", got[i], want[i])
				}
			}
			t.Errorf("%d sent, %d in objects, %d rows", sent, len(want), len(got))
		}
		t.Logf("records in %d, ids out %d, each usage byte for byte", sent, len(got))
	})
}
