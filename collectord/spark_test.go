//go:build torture

package main

import (
	"bytes"
	"context"
	endian "encoding/binary"
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

// The compaction into an Iceberg table, as docs/compaction-spark.md shows it. Run it with
// make compaction-spark.

var (
	sparkKills = flag.Int("sparkkills", 8, "how often the Spark job is killed")
	sparkRaces = flag.Int("sparkraces", 3, "how often two Spark jobs run at once")
	sparkHosts = flag.Int("sparkhosts", 0, "compact a day of so many hosts, and print how fast it was")
	sparkHours = flag.Int("sparkhours", 24, "so many hours of that day: each host has one object an hour")
)

// lakehouse is a destination, and the table that its objects are compacted into.
type lakehouse struct {
	t         *testing.T
	dir       string
	tools     string
	endpoint  string
	store     bucket.Store // the destination
	lake      bucket.Store // the files of the table
	script    string       // the command of docs/compaction-spark.md
	generated int          // objects
}

// newLakehouse returns a destination in MinIO, an empty catalog, and the settings of a
// daemon that ships to the destination.
func newLakehouse(t *testing.T) (l *lakehouse, settings string) {
	t.Helper()
	l = &lakehouse{t: t, dir: t.TempDir(), tools: filepath.Join(storages.Tools(), "spark")}
	if _, err := os.Stat(filepath.Join(l.tools, "jars", "stamp")); err != nil {
		skipMissing(t, "Spark (make compaction-spark installs it)")
	}
	if missing := notInstalled("java", "bash"); missing != "" {
		skipMissing(t, missing)
	}
	settings = startMinIO(t, l.dir)
	l.endpoint = regexp.MustCompile(`http://[0-9.:]+`).FindString(settings)
	open := func(url string) bucket.Store {
		s, err := bucket.Open(bucket.Destination{URL: url, S3: bucket.S3Options{Endpoint: l.endpoint, Region: "us-east-1", CredentialsFile: filepath.Join(l.dir, "credentials")}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	l.store, l.lake = open("s3://usages/prod"), open("s3://usages/lake")

	page, err := os.ReadFile("../docs/compaction-spark.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```sh\n([^`]*spark_job.py.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatal("docs/compaction-spark.md does not show the command")
	}
	l.script = "exec " + string(found[1])
	for _, change := range [][2]string{
		{"http://minio.example:9000", l.endpoint},
		{"jdbc:postgresql://db.example/iceberg", "jdbc:sqlite:" + l.catalog() + "?busy_timeout=120000"},
		{" jars/*.jar", " " + l.tools + "/jars/*.jar"},
		{"packaging/compact/", "../packaging/compact/"},
	} {
		if !strings.Contains(l.script, change[0]) {
			t.Fatalf("no %s in %s", change[0], l.script)
		}
		l.script = strings.ReplaceAll(l.script, change[0], change[1])
	}
	// What a cluster has configured.
	defaults := "spark.master local[2]\nspark.driver.memory 2g\nspark.ui.enabled false\nspark.sql.shuffle.partitions 4\nspark.local.dir " + l.dir + "\n"
	if *sparkHosts == 0 { // the jobs are so short that a better compiler would cost more than it saves
		defaults += "spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1\n"
	}
	if err := os.WriteFile(filepath.Join(l.dir, "spark-defaults.conf"), []byte(defaults), 0o600); err != nil {
		t.Fatal(err)
	}
	return l, settings
}

func (l *lakehouse) catalog() string { return filepath.Join(l.dir, "catalog.db") }

func (l *lakehouse) env() []string {
	return append(os.Environ(), "PATH="+filepath.Join(l.tools, "bin")+":"+os.Getenv("PATH"),
		"PYSPARK_PYTHON="+filepath.Join(l.tools, "bin", "python"), "SPARK_CONF_DIR="+l.dir, "SPARK_LOCAL_IP=127.0.0.1",
		"AWS_ACCESS_KEY_ID="+testUser, "AWS_SECRET_ACCESS_KEY="+testSecret, "AWS_REGION=us-east-1")
}

// sparkJob is a running compaction: a process group, since Python starts Java or the other
// way round.
type sparkJob struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	ended    chan struct{}
}

func (l *lakehouse) start() *sparkJob { return l.submit(l.script) }

func (l *lakehouse) submit(script string) *sparkJob {
	l.t.Helper()
	j := &sparkJob{cmd: exec.Command("bash", "-ec", script), ended: make(chan struct{})}
	j.cmd.Env, j.cmd.Stdout, j.cmd.Stderr = l.env(), &j.out, &j.err
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := j.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		_ = j.cmd.Wait()
		close(j.ended)
	}()
	l.t.Cleanup(func() {
		j.signal(syscall.SIGKILL)
		<-j.ended
	})
	return j
}

func (j *sparkJob) signal(s syscall.Signal) { _ = syscall.Kill(-j.cmd.Process.Pid, s) }

// ends waits for the end of the job, and returns what it printed.
func (l *lakehouse) ends(j *sparkJob, status int) string {
	l.t.Helper()
	select {
	case <-j.ended:
	case <-time.After(20 * time.Minute):
		l.t.Fatalf("the job does not end: %s", j.out.String())
	}
	if got := j.cmd.ProcessState.ExitCode(); got != status {
		l.t.Fatalf("exit status %d, want %d: %s%s", got, status, j.out.String(), lastOf(j.err.String()))
	}
	return j.out.String()
}

func (l *lakehouse) run(status int) string {
	l.t.Helper()
	return l.ends(l.start(), status)
}

func lastOf(text string) string { return text[max(0, len(text)-6000):] }

// written lists the files of the table.
func (l *lakehouse) written() (files []string) {
	l.t.Helper()
	for key, err := range l.lake.List(context.Background(), "") {
		if err != nil {
			l.t.Fatal(err)
		}
		files = append(files, key)
	}
	return files
}

// icebergRow is a record, as the table has it.
type icebergRow struct {
	ID         string  `json:"id"`
	ReceivedAt string  `json:"received_at"`
	Via        string  `json:"via"`
	Client     *string `json:"client"`
	Usage      string  `json:"usage"`
	Node       string  `json:"node"`
	Log        string  `json:"log"`
}

func (r icebergRow) String() string {
	client := "null"
	if r.Client != nil {
		client = fmt.Sprintf("%q", *r.Client)
	}
	return fmt.Sprint(r.ReceivedAt, " ", r.Via, " ", client, " ", r.Usage)
}

// tableCount compares a table with the objects.
type tableCount struct{ records, ids, doubled, missing, foreign, different int }

func (c tableCount) String() string {
	return fmt.Sprintf("%d records in, %d ids out, %d doubled, %d missing, %d different", c.records, c.ids, c.doubled, c.missing, c.different+c.foreign)
}

// compare reads all objects, and the table with another engine.
func (l *lakehouse) compare() (c tableCount) {
	l.t.Helper()
	want, objects := map[string]string{}, map[string][]string{}
	for key, err := range l.store.List(context.Background(), "dt=") {
		if err != nil {
			l.t.Fatal(err)
		}
		for _, line := range l.lines(key) {
			c.records++
			var r icebergRow
			columns, usage, _ := strings.Cut(line, `,"usage":`)
			if err := json.Unmarshal([]byte(columns+"}"), &r); err != nil {
				l.t.Fatal(err)
			}
			r.Usage = strings.TrimSuffix(usage, "}\n")
			if want[r.ID] == "" || r.String() < want[r.ID] { // of two with one id, the first one stays
				want[r.ID] = r.String()
			}
			objects[key] = append(objects[key], r.ID)
		}
	}
	got := map[string]string{}
	if _, err := os.Stat(l.catalog()); err == nil {
		for line := range bytes.Lines(l.read()) {
			var r icebergRow
			if err := json.Unmarshal(line, &r); err != nil {
				l.t.Fatal(err)
			}
			if got[r.ID] != "" {
				c.doubled++
			}
			got[r.ID] = r.String()
		}
	}
	c.ids = len(got)
	for id, text := range got {
		switch {
		case want[id] == "":
			c.foreign++
		case want[id] != text:
			c.different++
			l.t.Logf("%s is %s, want %s", id, text, want[id])
		}
	}
	for key, ids := range objects {
		there := 0
		for _, id := range ids {
			if got[id] != "" {
				there++
			}
		}
		if there != 0 && there != len(ids) && !strings.Contains(key, "/edge-1-") { // those have ids in common
			l.t.Errorf("%d of %d records of %s are there", there, len(ids), key)
		}
	}
	c.missing = len(want) - len(got) + c.foreign
	return c
}

// read prints the table, with a reader that is not Spark.
func (l *lakehouse) read(what ...string) []byte {
	l.t.Helper()
	read := exec.Command(filepath.Join(l.tools, "bin", "python"), append([]string{"../packaging/tools/spark/read.py", l.catalog(), l.endpoint}, what...)...)
	read.Env = l.env()
	var errOut bytes.Buffer
	read.Stderr = &errOut
	out, err := read.Output()
	if err != nil && !strings.Contains(errOut.String(), "no such table") {
		l.t.Fatalf("%v: %s", err, errOut.String())
	}
	return out
}

func (l *lakehouse) complete(when string) {
	l.t.Helper()
	c := l.compare()
	l.t.Logf("%s: %v", when, c)
	if c.doubled+c.missing+c.foreign+c.different != 0 {
		l.t.Errorf("%s: %v", when, c)
	}
}

func (l *lakehouse) lines(key string) (lines []string) {
	l.t.Helper()
	body, stored, err := l.store.Open(context.Background(), key)
	if err != nil {
		l.t.Fatal(err)
	}
	defer body.Close()
	reader, err := bucket.NewReader(body, stored.Size)
	if err != nil {
		l.t.Fatal(err)
	}
	defer reader.Close()
	for {
		line, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			l.t.Fatal(key, err)
		}
		lines = append(lines, string(line))
	}
}

// shortOddUsages are all of usagesToKeep but the one of 1 MB.
func shortOddUsages() []string {
	return slices.DeleteFunc(usagesToKeep(), func(usage string) bool { return len(usage) > 1000 })
}

// leftOnDisk counts the files with lines of objects that killed jobs have left, and the temporary
// files in which a usage can be read.
func (l *lakehouse) leftOnDisk() (kept, readable int) {
	l.t.Helper()
	files, err := filepath.Glob(filepath.Join(l.dir, "blockmgr-*", "*", "*"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			l.t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(file), "rdd_") {
			kept++
		}
		if bytes.Contains(content, []byte("inhaler")) { // which LZ4 leaves as it is
			readable++
		}
	}
	return kept, readable
}

// put stores an object of a host in an hour, with records of its own.
func (l *lakehouse) put(hour time.Time, host, first, records int) {
	l.t.Helper()
	key, content := generatedObject(hour, host, first, records)
	if err := l.store.Put(context.Background(), bucket.NewObject(key.String(), content)); err != nil {
		l.t.Fatal(err)
	}
	l.generated++
}

func generatedObject(hour time.Time, host, first, records int) (bucket.Key, []byte) {
	random := rand.New(rand.NewPCG(uint64(host), uint64(hour.Unix())+uint64(first)))
	var e bucket.LineEncoder
	var lines []byte
	odd := shortOddUsages()
	for i := range records {
		at := hour.UnixMicro() + int64(i)*int64(time.Hour/time.Microsecond)/int64(records)
		r := bucket.Record{ReceivedAt: at, Via: []string{"http", "udp"}[i%2], Client: []string{"", "clinic-7"}[i/2%2]}
		endian.BigEndian.PutUint64(r.ID[:], uint64(at/1000)<<16|0x7000|uint64(host)>>8)
		endian.BigEndian.PutUint64(r.ID[8:], 1<<63|uint64(host)&0xff<<48|uint64(first+i))
		r.Usage = fmt.Appendf(nil, `{"patientId":"%d","medication":%q,"puffs":%d,"battery":%.2f,"inhaler":{"model":"X%d","firmware":"1.%d"},"note":"%x"}`,
			random.IntN(100000), []string{"salbutamol", "fluticasone", "budesonide"}[random.IntN(3)], i%4, random.Float64(), host%7, i%9, random.Uint64()>>(i%32))
		if i%50 < len(odd) && i < 500 {
			r.Usage = []byte(odd[i%50])
		}
		lines, _ = e.Append(lines, &r)
	}
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(bucket.Window), zstd.WithEncoderCRC(true))
	key := bucket.Key{
		Node: fmt.Sprintf("host-%d", host), LogID: uint64(host) + 1<<40, Run: 7, Hour: bucket.HourOf(hour),
		FirstSeq: uint64(first), LastSeq: uint64(first + records - 1),
	}
	return key, enc.EncodeAll(lines, nil)
}

// shipReal ships objects of a daemon: odd usages, and some that were sent once more with their
// Idempotency-Key after a restart.
func (l *lakehouse) shipReal(settings string) {
	l.t.Helper()
	config, port, admin := configure(l.t, l.dir, "wal: {min_free: 0}\nshipper:\n  "+settings+"\n")
	for range 2 {
		d := start(l.t, config, port, admin)
		sendMedications(l.t, d, 2)
		for i, usage := range shortOddUsages() {
			req, err := http.NewRequest(http.MethodPost, d.url(), strings.NewReader(usage))
			if err != nil {
				l.t.Fatal(err)
			}
			req.Header.Set("Idempotency-Key", fmt.Sprint("key-", i))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				l.t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				l.t.Fatal(resp.Status)
			}
		}
		d.stop()
	}
}

func TestASparkJobCompactsEachIDOnce(t *testing.T) {
	l, settings := newLakehouse(t)
	l.shipReal(settings)
	noon := time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour)
	days := []time.Time{noon.AddDate(0, 0, -2), noon.AddDate(0, 0, -1), noon}
	next := 1
	more := func() { // late ones, too
		for _, day := range days {
			for host := range 3 {
				l.put(day.Add(time.Duration(next%9)*time.Hour), host, next, 60)
			}
		}
		next += 60
	}
	more()

	finished := 0
	for round := range *sparkKills {
		more()
		before, j := len(l.written()), l.start()
		// A run writes about 12 files for each day with new objects.
		after := before + 1 + (round*37/max(1, *sparkKills)+rand.IntN(4))%40
		running := true
		for running && len(l.written()) < after {
			select {
			case <-j.ended:
				running = false
			case <-time.After(2 * time.Millisecond):
			}
		}
		<-time.After(time.Duration(rand.IntN(60)) * time.Millisecond)
		j.signal(syscall.SIGKILL)
		<-j.ended
		if !running {
			finished++
			l.ends(j, 0)
		}
		c := l.compare()
		t.Logf("killed after %d files (finished: %v): %v", after-before, !running, c)
		if c.doubled+c.foreign+c.different != 0 {
			t.Fatal(c)
		}
	}
	if kept, readable := l.leftOnDisk(); kept == 0 && *sparkKills > 3 || readable != 0 {
		t.Errorf("killed jobs have left %d files with lines of objects on disk, and usages can be read in %d files", kept, readable)
	}
	t.Log(l.run(0))
	l.complete(fmt.Sprintf("killed %d times, %d times too late", *sparkKills, finished))

	files := len(l.written())
	something := regexp.MustCompile(`[1-9]\d* new`)
	if out := l.run(0); something.MatchString(out) || len(l.written()) != files {
		t.Errorf("there was nothing to do, and there are %d files more: %s", len(l.written())-files, out)
	}

	lost := 0
	for round := range *sparkRaces {
		more()
		one := l.start()
		if round == 0 { // stopped while it writes, so that the other one is quicker
			data := func() (n int) {
				for _, f := range l.written() {
					if strings.Contains(f, "/data/") {
						n++
					}
				}
				return n
			}
			before := data()
			for data() == before { // which takes minutes on a busy machine
				select {
				case <-one.ended:
					t.Fatalf("the job ended before it wrote rows: %s%s", one.out.String(), lastOf(one.err.String()))
				case <-time.After(5 * time.Millisecond):
				}
			}
			one.signal(syscall.SIGSTOP)
		}
		other := l.start()
		out := l.ends(other, 0)
		one.signal(syscall.SIGCONT)
		out += l.ends(one, 0)
		n := strings.Count(out, "starting over")
		if round == 0 && n == 0 {
			t.Errorf("nobody started over: %s", out)
		}
		lost += n
		l.complete(fmt.Sprintf("two jobs at once, %d times started over", n))
	}
	t.Logf("%d races, %d times started over", *sparkRaces, lost)

	// Nothing of the ledger is lost, and what killed jobs have left goes.
	settingsOfTheJob, _, _ := strings.Cut(l.script, "--py-files")
	t.Log(l.ends(l.submit(settingsOfTheJob+"../packaging/tools/spark/maintain.py lake.db.usages"), 0))
	if out := l.run(0); something.MatchString(out) {
		t.Errorf("after maintenance: %s", out)
	}
	l.complete("after maintenance")

	key, content := generatedObject(days[1], 1, next, 60)
	damaged := bytes.Clone(content)
	damaged[len(damaged)-1] ^= 1 // of the checksum: every line can be read
	object := bucket.NewObject(key.String(), damaged)
	if err := l.store.Put(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	if out := l.run(2); !strings.Contains(out, "skipped "+key.String()+": it can't be decompressed or read\n") {
		t.Errorf("the damaged object is not named: %s", out)
	}
	object = bucket.NewObject(key.String(), content)
	object.Replace, object.Replaces = true, bucket.AnyVersion
	if err := l.store.Put(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	l.run(0)
	l.complete(fmt.Sprintf("repaired; %d objects were generated", l.generated))

	out := l.ends(l.submit(settingsOfTheJob+"--py-files ../packaging/compact/ledger.py,../packaging/compact/spark_job.py ../packaging/tools/spark/refusals.py lake.db.usages"), 0)
	for _, want := range []string{"rolled back: lake.db.usages was rolled back", "repaired: accepted", "no ledger: lake.db.usages has rows, but no ledger"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
}

// Each host has one object an hour, with 200 records; some more are of a daemon, with repeated
// records. The figures are of the whole process tree, the start of Java included.
func TestASparkJobCompactsADay(t *testing.T) {
	if *sparkHosts == 0 {
		t.Skip("-sparkhosts is not set")
	}
	const each = 200
	l, settings := newLakehouse(t)
	day := time.Now().UTC().Truncate(24 * time.Hour)
	l.shipReal(settings)
	shipped, ids := 0, map[string]bool{}
	for key, err := range l.store.List(context.Background(), "dt=") {
		if err != nil {
			t.Fatal(err)
		}
		shipped++
		for _, line := range l.lines(key) {
			ids[line[:len(`{"id":"00000000-0000-0000-0000-000000000000"`)]] = true
		}
	}
	generated := *sparkHosts * *sparkHours
	usages := len(ids) + generated*each
	var wg sync.WaitGroup
	for hour := range *sparkHours {
		wg.Go(func() {
			for host := range *sparkHosts {
				key, content := generatedObject(day.Add(time.Duration(hour)*time.Hour), host, 1+hour*each, each)
				if err := l.store.Put(context.Background(), bucket.NewObject(key.String(), content)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for range 2 { // once more: there is nothing to do
		began := time.Now()
		j := l.start()
		out := l.ends(j, 0)
		cpu := j.cmd.ProcessState.UserTime() + j.cmd.ProcessState.SystemTime()
		t.Logf("%s%v, with %v of CPU in all", out, time.Since(began).Round(100*time.Millisecond), cpu.Round(100*time.Millisecond))
	}
	if got, want := string(l.read("count")), fmt.Sprintf("%d rows, %d ids\n", usages, usages); got != want {
		t.Errorf("the table has %s, want %s", got, want)
	}
	size := int64(0)
	for key, err := range l.lake.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if m, err := l.lake.Stat(context.Background(), key); err == nil {
			size += m.Size
		}
	}
	t.Logf("%d generated objects and %d of a daemon, %d usages, each once; the table has %d bytes", generated, shipped, usages, size)
}
