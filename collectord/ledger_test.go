package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"collectord/collectord/testrun"
)

var ledgerFor = flag.Duration("ledger-for", 5*time.Second/time.Duration(testrun.OneIn(5)), "how long the ledger is watched under load, faults and restarts")

// checkLedgerUntil scrapes without a pause until the daemon ends or stop is closed. It
// asserts that every scrape balances and that no counter decreases.
func (d *daemon) checkLedgerUntil(stop <-chan struct{}) (scrapes int) {
	before := map[string]float64{}
	for {
		select {
		case <-stop:
			return scrapes
		default:
		}
		m, err := d.scrape()
		if err != nil {
			return scrapes // killed
		}
		if _, ok := m["collectord_usages_pending"]; !ok {
			continue // starting
		}
		scrapes++
		d.checkLedger(m)
		for series, v := range m {
			name, _, _ := strings.Cut(series, "{")
			counts := strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_bucket")
			if counts && v < before[series] {
				d.t.Errorf("%s decreased from %v to %v", series, before[series], v)
			}
		}
		before = m
	}
}

// checkLedger asserts the three identities of the ledger.
func (d *daemon) checkLedger(m map[string]float64) {
	d.t.Helper()
	sum := func(name, source string) (n float64) {
		for series, v := range m {
			if strings.HasPrefix(series, "collectord_usages_"+name+"{") && strings.Contains(series, `source="`+source+`"`) {
				n += v
			}
		}
		return n
	}
	appended := 0.0
	for _, source := range []string{"http", "udp"} {
		if r, a, no := sum("received_total", source), sum("accepted_total", source), sum("rejected_total", source); r != a+no {
			d.t.Errorf("%s: received %v, accepted %v + rejected %v", source, r, a, no)
		}
		a, in, again := sum("accepted_total", source), sum("appended_total", source), sum("repeated_total", source)
		if lost, wait := sum("dropped_total", source), sum("waiting", source); a != in+again+lost+wait {
			d.t.Errorf("%s: accepted %v, appended %v + repeated %v + dropped %v + waiting %v", source, a, in, again, lost, wait)
		}
		appended += in
	}
	of := func(name string) float64 { return m["collectord_usages_"+name] }
	if out := of("pending") + of("shipped_total") + of("quarantined_total") + of("evicted_total"); appended+of("recovered_total") != out {
		d.t.Errorf("appended %v + recovered %v, pending %v + shipped %v + quarantined %v + evicted %v", appended, of("recovered_total"),
			of("pending"), of("shipped_total"), of("quarantined_total"), of("evicted_total"))
	}
}

// load is the traffic of clients: valid usages over HTTP and UDP, and invalid requests.
type load struct {
	next       atomic.Int64 // number of the next usage
	acks       acknowledged
	notCreated atomic.Int64 // answers other than 201
}

// run sends until stop is closed or the daemon ends.
func (l *load) run(d *daemon, stop <-chan struct{}) {
	const workers = 6
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}, Timeout: testTimeout}
	defer client.CloseIdleConnections()
	bad := []struct{ mediaType, body string }{
		{"application/json", `{"a":`},
		{"application/json", `[1]`},
		{"application/json", ""},
		{"application/json", `{"a":1,"a":2}`},
		{"application/json", `{"a":"` + strings.Repeat("x", 70<<10) + `"}`},
		{"text/plain", "text"},
		{"application/json", "{\"a\":\"\xff\"}"},
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			udp, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", d.port))
			if err != nil {
				d.t.Error(err)
				return
			}
			defer udp.Close()
			for turn := w; ; turn++ {
				select {
				case <-stop:
					return
				default:
				}
				i := int(l.next.Add(3)) - 3
				// A closed port and a full buffer are expected.
				_, _ = udp.Write([]byte(longUsage(i+1, "udp") + "\n" + longUsage(i+2, "udp")))
				mediaType, body := "application/json", longUsage(i, "http")
				if turn%5 == 4 {
					b := bad[turn/5%len(bad)]
					mediaType, body = b.mediaType, b.body
					_, _ = udp.Write([]byte(b.body[:min(len(b.body), 1000)]))
				}
				resp, err := client.Post(d.url(), mediaType, strings.NewReader(body))
				if err != nil {
					select {
					case <-d.ended:
						return
					default:
						continue
					}
				}
				answer, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				id, found := bytes.CutPrefix(answer, []byte(`{"id":"`))
				if resp.StatusCode != http.StatusCreated || !found || err != nil || len(id) < 36 {
					l.notCreated.Add(1)
					continue
				}
				l.acks.mu.Lock()
				l.acks.ids[i] = string(id[:36])
				l.acks.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// longUsage is long, so that it fills a log sooner.
func longUsage(i int, via string) string {
	return fmt.Sprintf(`{"n":%d,"via":%q,"note":%q}`, i, via, strings.Repeat("inhaled ", 600))
}

// folderOutage is a destination folder that can be made unavailable.
type folderOutage struct {
	t    *testing.T
	path string
}

func (a folderOutage) begin() {
	a.t.Helper()
	if err := errors.Join(os.Rename(a.path, a.path+".away"), os.WriteFile(a.path, nil, 0o600)); err != nil {
		a.t.Fatal(err)
	}
}

func (a folderOutage) end() {
	a.t.Helper()
	if err := errors.Join(os.Remove(a.path), os.Rename(a.path+".away", a.path)); err != nil {
		a.t.Fatal(err)
	}
}

var stoppedWith = regexp.MustCompile(`msg=stopped .* pending=(\d+)`)

// TestTheLedgerBalancesAtEveryScrape runs a daemon under load and scrapes it without a
// pause. Its storage is unavailable until the log is full, and then available again. The
// daemon is ended in every possible way and restarted. Each process must find all usages
// that the previous one left. At the end every acknowledged usage is in the archive, once.
func TestTheLedgerBalancesAtEveryScrape(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, max_bytes: 5MiB, seal_after: 200ms, min_free: 0}\n"+
		"shutdown: {drain: 50ms, grace: 500ms}\nshipper: {destination: 'file://"+dir+"/archive', retry_min: 20ms, retry_max: 100ms}\n")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("http: {"), []byte("http: {max_record: 64KiB, "), 1)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	storage := folderOutage{t, filepath.Join(dir, "archive")}
	l := &load{acks: acknowledged{ids: map[int]string{}}}
	// inLog counts the usages in the log of an ended daemon. A daemon killed under load may
	// have been in the middle of a write.
	torn := 0
	inLog := func(killed bool) float64 {
		out, stderr, status := runCollectord(t, "wal", "cat", "--config", config)
		if killed && status == exitNotRight {
			damage, _, _ := runCollectord(t, "wal", "verify", "--config", config)
			if strings.Count(damage, "DAMAGED") != 1 || strings.Contains(damage, "lost:") {
				t.Errorf("more than the last write is damaged: %s", damage)
			}
			torn++
		} else if status != 0 {
			t.Fatalf("wal cat exits with %d: %s", status, stderr)
		}
		return float64(strings.Count(out, "\n"))
	}
	const ways = 4
	var pendingBefore float64 // usages that the previous process left
	var ends [ways]int
	scrapes, full := 0, 0.0
	for began, round := time.Now(), 0; time.Since(began) < *ledgerFor || round < ways; round++ {
		d := start(t, config, port, admin)
		until(t, "metrics are served", func() bool { _, ok := d.metrics()["collectord_usages_pending"]; return ok })
		if found := d.metrics()["collectord_usages_recovered_total"]; found != pendingBefore {
			t.Errorf("round %d: recovered %v usages, the previous process left %v", round, found, pendingBefore)
		}
		stopLoad, stopWatch, watched, loaded := make(chan struct{}), make(chan struct{}), make(chan int, 1), make(chan struct{})
		go func() { watched <- d.checkLedgerUntil(stopWatch) }()
		go func() { defer close(loaded); l.run(d, stopLoad) }()
		refused := func() float64 {
			return d.metrics()[`collectord_usages_rejected_total{reason="log_full",source="http"}`]
		}
		shipped := func() float64 { return d.metrics()["collectord_usages_shipped_total"] }
		until(t, "something is shipped", func() bool { return shipped() > 0 })
		storage.begin()
		until(t, "the log is full", func() bool { return refused() > 0 })
		full += refused()
		way := round % ways
		if way != 1 {
			storage.end()
		}
		if way == 0 && round%8 == 0 { // not each time: the shipper retries only after a while
			before := shipped()
			until(t, "the daemon ships again", func() bool { return shipped() > before })
		}
		ends[way]++
		switch way {
		case 0: // under load
			d.kill()
			close(stopLoad)
			pendingBefore = inLog(true)
		case 1: // at rest: the last scrape has the number of usages left
			close(stopLoad)
			<-loaded
			received, since := -1.0, time.Now()
			until(t, "no usage waits or arrives", func() bool { // datagrams are read some milliseconds later
				if queued, _ := kernelQueue(t, port); queued > 0 {
					received = -1
				}
				m := d.metrics()
				if now := m[`collectord_usages_received_total{source="udp"}`]; now != received {
					received, since = now, time.Now()
				}
				waiting := m[`collectord_usages_waiting{source="http"}`] + m[`collectord_usages_waiting{source="udp"}`]
				return waiting == 0 && time.Since(since) > 200*time.Millisecond
			})
			pendingBefore = d.metrics()["collectord_usages_pending"]
			d.kill()
			if n := inLog(false); n != pendingBefore {
				t.Errorf("round %d: %v usages in the log, the last scrape has %v", round, n, pendingBefore)
			}
			storage.end()
		default: // an orderly stop, under load or at rest
			if way == 3 {
				close(stopLoad)
				<-loaded
			}
			d.stop()
			if way == 2 {
				close(stopLoad)
			}
			lastLine := stoppedWith.FindStringSubmatch(d.log())
			if lastLine == nil {
				t.Fatalf("round %d: the log lacks the last line", round)
			}
			if pendingBefore, err = strconv.ParseFloat(lastLine[1], 64); err != nil {
				t.Fatal(err)
			}
			if n := inLog(false); n != pendingBefore {
				t.Errorf("round %d: %v usages in the log, the last line has %v", round, n, pendingBefore)
			}
		}
		close(stopWatch)
		scrapes += <-watched
		<-loaded
		if t.Failed() {
			t.FailNow()
		}
	}
	d := start(t, config, port, admin)
	until(t, "all is shipped", func() bool { m := d.metrics(); p, ok := m["collectord_usages_pending"]; return ok && p == 0 })
	d.stop()
	records, objects := download(t, config)
	udp := verifyAcknowledged(t, &l.acks, records)
	if _, err := os.Stat(filepath.Join(dir, "data", "wal", "quarantine")); torn == 0 && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the quarantine is not empty: %v", err)
	}
	t.Logf("%d scrapes balance; %d kills under load, %d at rest, %d and %d stops; %d acknowledged, %d other answers, %.0f or more refused by a full log; %d records (%d by UDP) in %d objects",
		scrapes, ends[0], ends[1], ends[2], ends[3], l.acks.count(), l.notCreated.Load(), full, len(records), udp, objects)
}
