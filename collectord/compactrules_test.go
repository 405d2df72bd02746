//go:build torture

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// says checks that compact.py printed a line about the hour's partition that contains the
// text.
func (p *compactPlace) says(out string, hour int, text string) {
	p.t.Helper()
	partition := strings.TrimSuffix(bucket.Partition(bucket.HourOf(compactNoon)+int64(hour)), "/")
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, partition+": ") && strings.Contains(line, text) {
			return
		}
	}
	p.t.Errorf("%s: want %q in: %s", partition, text, out)
}

// beat stores a heartbeat of the log.
func (l *compactLog) beat(hour int, oldest time.Duration, confirmed uint64) {
	l.p.t.Helper()
	o, err := bucket.NewHeartbeat(bucket.Key{Node: l.node, LogID: l.id, Run: 0xabc}, bucket.Heartbeat{
		LastSeq: l.next - 1, ConfirmedBelow: confirmed, Pending: l.next - confirmed, OldestUnshipped: int64(oldest / time.Second),
		At: compactNoon.Add(time.Duration(hour) * time.Hour).Add(10 * time.Minute), Version: "test",
	})
	if err == nil {
		err = l.p.objects.Put(l.p.t.Context(), o)
	}
	if err != nil {
		l.p.t.Fatal(err)
	}
}

func TestCompactionCallsNoHourClosedThatMayLackRecords(t *testing.T) {
	compactPlaces(t, func(t *testing.T, p *compactPlace) {
		a, b := &compactLog{p: p, node: "edge-a", id: 0xa, next: 1}, &compactLog{p: p, node: "edge-b", id: 0xb, next: 1}
		n := 0
		ids := func() []bucket.ID { n += 10; return compactIDs(7, n, 10) }
		a.put(0, ids())
		b.put(0, ids())
		a.put(1, ids())
		p.says(p.compact(0), 0, "edge-b 000000000000000b: no heartbeat, and no later object")
		b.beat(0, 0, 11)
		p.says(p.compact(0), 0, "has not been heard of since 2026-11-23T12:10:00Z")
		b.beat(1, time.Hour, 11)
		p.says(p.compact(0), 0, "has records from 2026-11-23T12:10:00Z that are not shipped")
		b.next += 5 // confirmed records that are not in the bucket
		b.beat(1, 0, 16)
		p.says(p.compact(0), 0, "records 11 to 15 are not there")
		b.next -= 5
		b.put(1, ids()[:5])
		b.beat(1, 0, 16)
		p.says(p.compact(0), 0, "; closed")

		a.next += 10
		a.put(2, ids())
		p.says(p.compact(0), 1, "edge-a 000000000000000a: records 21 to 30 are not there")
		note, err := bucket.NewLossNote(bucket.Key{Node: "edge-a", LogID: 0xa, Run: 0xabc, FirstSeq: 21, LastSeq: 30}, "evicted", time.Now(), true)
		if err == nil {
			err = p.objects.Put(t.Context(), note)
		}
		if err != nil {
			t.Fatal(err)
		}
		b.beat(2, 0, 16)
		p.says(p.compact(0), 1, "; closed")

		late := &compactLog{p: p, node: "edge-late", id: 0xc, next: 1}
		late.put(0, ids())
		out := p.compact(0)
		p.says(out, 0, "they came late: the partition was closed")
		p.says(out, 0, "open: \"edge-late")
		if out := p.compact(0, "--gone", "000000000000000c"); !strings.Contains(out, "hour=12: 30 rows, with 0 records of 0 new objects; closed") {
			t.Errorf("with --gone: %s", out)
		}

		key := b.put(3, ids())
		content, bad := compactFrame(t, []byte("{}\n")), uint64(1)
		for name, damaged := range map[string][]byte{
			"one line": content, "cut off": content[:len(content)-3], "a byte more": append(content[:len(content):len(content)], 0), "no frame": []byte("x"),
			"no records": compactFrame(t, []byte(strings.Repeat("{}\n", 10))), "empty": {},
		} {
			k := key
			k.FirstSeq, k.LastSeq, k.Node = k.LastSeq+1, k.LastSeq+10, "edge-b"
			k.Run = bad
			bad++
			p.store(k.String(), damaged)
			if out := p.compact(2); !strings.Contains(out, fmt.Sprintf("left out %q: ", k)) || strings.Contains(out, "hour=15: 20 rows") {
				t.Errorf("%s: %s", name, out)
			}
		}
		b.beat(4, 0, b.next)
		if out := p.compact(2); strings.Contains(out, "hour=15: 10 rows, with 0 records of 0 new objects; closed") || len(p.rows()) != n-5 {
			t.Errorf("%d rows; with damaged objects: %s", len(p.rows()), out)
		}
	})
}

// TestCompactionKeepsADerivedIDInItsFirstHour stores an earlier hour after later ones.
func TestCompactionKeepsADerivedIDInItsFirstHour(t *testing.T) {
	compactPlaces(t, func(t *testing.T, p *compactPlace) {
		log := &compactLog{p: p, node: "edge-1", id: 1, next: 1}
		log.put(5, compactIDs(8, 1, 10))
		p.compact(0)
		log.put(6, compactIDs(8, 1, 12))
		p.compact(0)
		log.put(4, compactIDs(8, 1, 5)) // the earliest hour, which arrives late
		p.compact(0)
		hours := map[string]int{}
		for _, r := range p.rows() {
			hours[r.Partition[len(r.Partition)-2:]]++
		}
		if fmt.Sprint(hours) != "map[16:5 17:5 18:2]" {
			t.Errorf("derived ids by hour: %v", hours)
		}
		log.put(30, compactIDs(8, 1, 12)) // at 18:00 of the next day, --look-back of 24 hours reaches only the ids of 18:00
		p.compact(0)
		if n := len(p.rows()); n != 12+10 {
			t.Errorf("%d rows", n)
		}
	})
}

// later runs the program as if it were two hours later, here and at the storage.
func (p *compactPlace) later(args ...string) string {
	p.t.Helper()
	return p.patched(compactClock(2*time.Hour)+"; there = places.seconds; places.seconds = lambda headers: there(headers) + 7200", args...)
}

// compactClock is a patch of the program: its clock is wrong by so much.
func compactClock(by time.Duration) string {
	return fmt.Sprintf("import time; now = time.time; time.time = lambda: now() + %d", int64(by/time.Second))
}

// patched runs the program with a change in Python.
func (p *compactPlace) patched(patch string, args ...string) string {
	p.t.Helper()
	cmd := p.command(args...)
	cmd.Args = append([]string{cmd.Args[0], "-c", "import runpy, sys; sys.path.insert(0, '../packaging/compact'); import places; " + patch +
		"; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"}, cmd.Args[1:]...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestCompactionExpiresTheOldestFirst(t *testing.T) {
	compactPlaces(t, func(t *testing.T, p *compactPlace) {
		a, b := &compactLog{p: p, node: "edge-a", id: 0xa, next: 1}, &compactLog{p: p, node: "edge-b", id: 0xb, next: 1}
		for i := range 10 {
			a.put(i/3, compactIDs(7, 100*i, 10))
			b.put(i/3, compactIDs(7, 100*i+50, 10))
		}
		a.beat(4, 0, a.next)
		b.beat(4, 0, b.next)
		before := mustRun(t, "audit", "--config", p.config)
		if out := p.compact(0, "--expire"); !strings.Contains(out, " 0 expired") {
			t.Errorf("young objects: %s", out)
		}
		if strings.HasPrefix(p.from, "s3://") {
			if out := p.patched(compactClock(2*time.Hour), "--expire"); !strings.Contains(out, " 0 expired") {
				t.Errorf("young objects, by a clock that is ahead: %s", out)
			}
		}
		if out := p.later("--expire"); !strings.Contains(out, " 18 expired") {
			t.Errorf("old objects: %s", out)
		}
		after := mustRun(t, "audit", "--config", p.config)
		if strings.Contains(before, "earlier records") || !strings.Contains(after, "earlier records") || !strings.Contains(after, "90") {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		t.Logf("after --expire, audit prints:\n%s", after)
		a.put(0, compactIDs(7, 5000, 10)) // an object that arrives late
		p.later("--expire")
		mustRun(t, "audit", "--config", p.config)
		if n := len(p.rows()); n != 210 {
			t.Errorf("%d rows", n)
		}
	})
}

func TestCompactionRunsBesideNoOtherWithoutIfMatch(t *testing.T) {
	compactPython(t)
	for name, conditions := range map[string]int{"ignored": s3test.Ignore, "not implemented": s3test.Refuse} {
		t.Run(name, func(t *testing.T) {
			server, err := s3test.New()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			server.Behave(s3test.Behaviour{Conditions: conditions})
			dir := t.TempDir()
			p := &compactPlace{t: t, from: dir + "/archive", to: "s3://" + s3test.Bucket + "/parquet", env: compactEnv(dir, server.URL, testUser, testSecret)}
			if p.objects, err = bucket.Open(bucket.Destination{URL: "file://" + p.from}); err != nil {
				t.Fatal(err)
			}
			if out := p.compact(1); !strings.Contains(out, "there are no objects below") {
				t.Errorf("without objects: %s", out)
			}
			log := &compactLog{p: p, node: "edge-1", id: 1, next: 1}
			log.put(0, compactIDs(7, 1, 10))
			if out := p.compact(1); !strings.Contains(out, "ignores If-Match: two programs at once would undo each other's work (make sure that only one runs, and add --alone)") {
				t.Errorf("the program prints %s", out)
			}
			if out := p.compact(0, "--alone"); !strings.Contains(out, "10 rows") {
				t.Errorf("with --alone: %s", out)
			}
		})
	}
}

func TestCompactionOfAnHourThatIsLargerThanMemory(t *testing.T) {
	dir := t.TempDir()
	p := &compactPlace{t: t, from: dir + "/archive", to: dir + "/parquet"}
	var err error
	if p.objects, err = bucket.Open(bucket.Destination{URL: "file://" + p.from}); err != nil {
		t.Fatal(err)
	}
	var size int64
	records := 0
	const each = 100_000
	for i := 0; size < *compactBytes; i++ {
		k := bucket.Key{Node: "edge-1", LogID: 1, Run: 1, FirstSeq: uint64(records) + 1, LastSeq: uint64(records) + each, Hour: bucket.HourOf(compactNoon)}
		var lines []byte
		var encoder bucket.LineEncoder
		for n, id := range compactIDs(7, records, each) {
			usage := fmt.Appendf(nil, `{"patientId":"%d","medication":"salbutamol","text":"%x%x"}`, n*7919%100_003, id, uint64(n*i)*0x9e3779b97f4a7c15)
			if lines, err = encoder.Append(lines, &bucket.Record{ID: id, ReceivedAt: compactNoon.UnixMicro() + int64(records*7919%3_500_000)*1000 + int64(n), Via: "http", Usage: usage}); err != nil {
				t.Fatal(err)
			}
		}
		records += each
		size += int64(len(lines))
		p.store(k.String(), compactFrame(t, lines))
	}
	cmd := p.command("--memory", "200MB", "--threads", "2")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf(": %d rows", records)) {
		t.Fatalf("%v: %s", err, out)
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	t.Logf("an hour of %d usages, %d MB of lines, with --memory 200MB: %d MB of memory at most, %v, %v of CPU",
		records, size/1e6, usage.Maxrss*1024/1e6, time.Since(began).Round(time.Second), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(time.Second))
	if usage.Maxrss*1024 > 450e6 {
		t.Errorf("the compaction took %d MB of memory", usage.Maxrss*1024/1e6)
	}
	if left, _ := filepath.Glob(filepath.Join(p.to, "_compact", "tmp", "*")); len(left) > 0 {
		t.Errorf("files with usages are left: %v", left)
	}
}

func TestCompactionRules(t *testing.T) {
	cmd := exec.Command(compactPython(t), "-m", "unittest", "discover", "-s", "../packaging/compact")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
