//go:build torture

package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"collectord/shipper/bucket"
)

var backlogMiB = flag.Int("backlog", 5<<10, "MiB that pile up while the storage is away")

// maxDrainMemory bounds the memory of a daemon with every limit reached at once.
const maxDrainMemory = 128 << 20

func readNumber(t *testing.T, path, pattern string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return 0 // the process has ended
	}
	m := regexp.MustCompile(pattern).FindSubmatch(b)
	if m == nil {
		t.Fatalf("%s lacks %s", path, pattern)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestABacklogIsDrainedInLittleMemory builds a backlog while the storage is down. It drains
// the backlog in a memory cgroup while more usages arrive.
func TestABacklogIsDrainedInLittleMemory(t *testing.T) {
	requirePrograms(t, "sh")
	dir := t.TempDir()
	down := fmt.Sprintf("destination: s3://usages/prod\n  s3: {endpoint: 'http://127.0.0.1:%d', region: us-east-1, credentials_file: %s/credentials}", freePorts(t, 1)[0], dir)
	up := startMinIO(t, dir)
	const common = "wal: {sync: interval, max_bytes: 20GiB, min_free: 0}\nshutdown: {grace: 0s}\nshipper:\n  "
	config, port, admin := configure(t, dir, common+down+"\n")
	d := start(t, config, port, admin)
	posted := 0
	began := time.Now()
	for d.metrics()["collectord_wal_bytes"] < float64(*backlogMiB<<20) {
		var clients sync.WaitGroup
		for range 4 {
			body := makeBatch(posted, 5_000)
			posted += 5_000
			clients.Go(func() {
				resp, err := http.Post(d.url(), "application/x-ndjson", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				answer, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					t.Errorf("%s: %s", resp.Status, answer)
				}
			})
		}
		clients.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	backlog := d.metrics()
	d.stop()
	t.Logf("%d usages, %.0f MiB in %.0f segments, in %v with the storage down", posted, backlog["collectord_wal_bytes"]/(1<<20),
		backlog["collectord_wal_sealed_segments"], time.Since(began).Round(time.Second))

	group := memoryGroup(t, maxDrainMemory)
	config, port, admin = configure(t, dir, common+up+"\n")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	d = startCommand(t, exec.Command("sh", "-c", `echo $$ >"$1"/cgroup.procs && exec "$2" run --config "$3"`, "sh", group, path, config), port, admin)
	status := fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid)
	var curve []string
	acks := &acknowledged{ids: map[int]string{}}
	pending, more, peak, every := 1.0, 0, 0, 1
	for sample := 0; pending > 0; sample++ {
		select {
		case err := <-d.exited:
			t.Fatalf("the daemon ended: %v\n%s", err, d.log())
		case <-time.After(time.Second):
		}
		d.post(acks, posted+more, posted+more+20, 2, false)
		more += 20
		m := d.metrics()
		if pending = m["collectord_usages_pending"]; pending < 100_000 && m["collectord_wal_sealed_segments"] == 0 {
			pending = 0 // the rest is in the active segment
		}
		rss := readNumber(t, status, `VmRSS:\s+(\d+) kB`) / 1024
		peak = max(peak, rss)
		if sample%every == 0 {
			curve = append(curve, fmt.Sprintf("%3.0f s %3d MiB, %5.0f MiB to go", time.Since(began).Seconds(), rss, m["collectord_wal_bytes"]/(1<<20)))
		}
		if len(curve) == 40 { // keep every second line
			for i := range 20 {
				curve[i] = curve[2*i]
			}
			curve, every = curve[:20], 2*every
		}
		if time.Since(began) > 30*time.Minute {
			t.Fatal("the backlog is not drained in time")
		}
	}
	took := time.Since(began)
	highest := readNumber(t, status, `VmHWM:\s+(\d+) kB`) / 1024
	kills := oomKills(t, group)
	d.stop()
	config, port, admin = configure(t, dir, strings.Replace(common, "grace: 0s", "grace: 2m", 1)+up+"\n")
	start(t, config, port, admin).stop() // ships the last segment
	records, objects, first := countStored(t, config)
	if kills > 0 || records != posted+more || first != 1 {
		t.Errorf("%d OOM kills; %d records from seq %d in the bucket, %d were posted", kills, records, first, posted+more)
	}
	t.Logf("drained in %v, %.0f MiB/s of the log, in a cgroup of %d MiB: RSS at most %d MiB, no OOM; %d records in %d objects, %d usages posted meanwhile\n%s",
		took.Round(time.Second), backlog["collectord_wal_bytes"]/(1<<20)/took.Seconds(), maxDrainMemory>>20, highest, records, objects, more, strings.Join(curve, "\n"))
}

// countStored adds up the record counts in the metadata of all objects. Their seqs must be
// one range without a hole.
func countStored(t *testing.T, config string) (records, objects, first int) {
	t.Helper()
	store := storeOf(t, config)
	var all []bucket.Metadata
	for key, err := range store.List(t.Context(), "dt=") {
		if err != nil {
			t.Fatal(err)
		}
		m, err := store.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Metadata)
	}
	slices.SortFunc(all, func(a, b bucket.Metadata) int { return cmp.Compare(a.FirstSeq, b.FirstSeq) })
	for i, m := range all {
		if i > 0 && m.FirstSeq != all[i-1].LastSeq+1 {
			t.Errorf("after seq %d comes %d", all[i-1].LastSeq, m.FirstSeq)
		}
		records += int(m.Records)
	}
	return records, len(all), int(all[0].FirstSeq)
}

// makeBatch returns n usages as NDJSON. They compress as well as real ones, not better.
func makeBatch(from, n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"n":%d,"patientId":"%d","timestamp":"2026-11-23T08:30:%02dZ","medication":"Salbutamol","device":"in-%08x","flow":%.3f,"firmware":"2.4.%d","note":"%016x"}`+"\n",
			from+i, rand.IntN(100_000), i%60, rand.Uint32(), rand.Float64()*100, rand.IntN(9), rand.Uint64())
	}
	return b.Bytes()
}
