//go:build torture

package main

import (
	"bytes"
	"context"
	endian "encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
)

// The compaction into an Iceberg table, as docs/compaction-spark.md shows it. Run it with
// make compaction-spark.

var (
	sparkKills = flag.Int("sparkkills", 8, "how often the Spark job is killed")
	sparkRaces = flag.Int("sparkraces", 3, "how often two Spark jobs run at once")
	sparkHosts = flag.Int("sparkhosts", 0, "compact a day of so many hosts, and print how fast it was")
	sparkHours = flag.Int("sparkhours", 24, "so many hours of that day: each host has one object an hour")
)

// shortOddUsages are all of usagesToKeep but the one of 1 MB.
func shortOddUsages() []string {
	return slices.DeleteFunc(usagesToKeep(), func(usage string) bool { return len(usage) > 1000 })
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
	more := func() { // also for earlier hours
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
		t.Errorf("a run without new objects wrote %d files: %s", len(l.written())-files, out)
	}

	lost := 0
	for round := range *sparkRaces {
		more()
		one := l.start()
		if round == 0 { // the first job is stopped while it writes, so that the other one is quicker
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
			t.Errorf("no job started over: %s", out)
		}
		lost += n
		l.complete(fmt.Sprintf("two jobs at once, %d times started over", n))
	}
	t.Logf("%d races, %d times started over", *sparkRaces, lost)

	// Maintenance keeps the ledger, and removes the files that killed jobs have left.
	settingsOfTheJob, _, _ := strings.Cut(l.script, "--py-files")
	t.Log(l.ends(l.submit(settingsOfTheJob+"../packaging/tools/spark/maintain.py lake.db.usages"), 0))
	if out := l.run(0); something.MatchString(out) {
		t.Errorf("after maintenance: %s", out)
	}
	l.complete("after maintenance")

	l.damage(days[1], next, more)
	l.complete(fmt.Sprintf("repaired; %d objects were generated", l.generated))

	out := l.ends(l.submit(settingsOfTheJob+"--py-files ../packaging/compact/ledger.py,../packaging/compact/spark_job.py ../packaging/tools/spark/refusals.py lake.db.usages"), 0)
	for _, want := range []string{"rolled back: lake.db.usages was rolled back", "repaired: accepted", "no ledger: lake.db.usages has rows, but no ledger"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
}

// damage stores objects that a job has to skip, beside others, and repairs them.
func (l *lakehouse) damage(hour time.Time, first int, more func()) {
	l.t.Helper()
	put := func(key bucket.Key, content []byte) {
		object := bucket.NewObject(key.String(), content)
		object.Replace, object.Replaces = true, bucket.AnyVersion
		if err := l.store.Put(context.Background(), object); err != nil {
			l.t.Fatal(err)
		}
	}
	more()
	torn, tornContent := generatedObject(hour, 0, first+100, 60)
	short, shortContent := generatedObject(hour, 1, first+100, 60)
	foreign, foreignContent := generatedObject(hour, 2, first+100, 60)
	hidden, hiddenContent := generatedObject(hour, 3, first, 60)
	hidden.Node = "_" + hidden.Node
	_, less := generatedObject(hour, 1, first+100, 59)
	enc, _ := zstd.NewWriter(nil)
	damaged := bytes.Clone(tornContent)
	damaged[len(damaged)-1] ^= 1 // of the checksum: every line can be read
	put(torn, damaged)
	put(short, less)
	put(foreign, enc.EncodeAll(bytes.Repeat([]byte("{}\n"), 60), nil))
	put(hidden, hiddenContent)
	out := l.run(2)
	for _, want := range []string{
		torn.String() + ": it can't be decompressed or read\n",
		short.String() + ": it has 59 lines, and its name says 60\n",
		foreign.String() + ": 60 of its lines are not what collectord writes\n",
		hidden.String() + ": Spark reads no file whose name begins with _ (change node)\n",
		" 3 new, 180 records read, 180 added, 4 skipped",
	} {
		if !strings.Contains(out, want) {
			l.t.Errorf("%q is not in %s", want, out)
		}
	}
	put(torn, tornContent)
	put(short, shortContent)
	put(foreign, foreignContent)
	if out := l.run(2); strings.Count(out, "skipped dt=") != 1 {
		l.t.Errorf("repaired objects are skipped, or the hidden one is not: %s", out)
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
