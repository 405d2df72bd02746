//go:build torture

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestProxiesBeforeCollectorsHideKills kills, restarts and hangs each of three collectors
// behind a proxy. No client may get an error. Some clients send keys and repeat each
// request after its answer, as if the answer was lost.
func TestProxiesBeforeCollectorsHideKills(t *testing.T) {
	for name, front := range proxies() {
		t.Run(name, func(t *testing.T) { hidesKills(t, front) })
	}
}

func hidesKills(t *testing.T, startFront startProxy) {
	bucket := startMinIO(t, t.TempDir())
	var collectors []*daemon
	var configs []string
	for i := range 3 {
		config, port, admin := configure(t, t.TempDir(), "wal: {segment_size: 1MiB, seal_after: 200ms, min_free: 0}\nshutdown: {grace: 2m}\nshipper:\n  "+bucket+"\n")
		replaceInFile(t, config, "node: edge-1", fmt.Sprintf("node: collector-%d", i+1))
		configs = append(configs, config)
		collectors = append(collectors, start(t, config, port, admin))
	}
	p := startFront(t, false, collectors...)

	const keyless, keyed, chunk = 24, 8, 64 // chunk is the number of requests on a connection
	front := &daemon{t: t, port: p.port}
	acks := &acknowledged{ids: map[int]string{}}
	r := &repeater{
		t: t, url: front.url(), acks: acknowledged{ids: map[int]string{}},
		client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: keyed}, Timeout: 40 * time.Second},
	}
	var over atomic.Bool
	t.Cleanup(func() { over.Store(true) })
	var clients sync.WaitGroup
	for c := range keyless {
		clients.Go(func() {
			for n := c * chunk; !over.Load(); n += keyless * chunk {
				front.post(acks, n, n+chunk, 1, false)
			}
		})
	}
	for c := range keyed {
		clients.Go(func() {
			for k := c; !over.Load(); k += keyed {
				r.deliver(1<<20 + k)
				r.deliver(1<<20 + k)
			}
		})
	}
	waitServing := func(what string) {
		t.Helper()
		one, other := acks.count()+1000, r.acks.count()+1000
		until(t, what, func() bool { return acks.count() >= one && r.acks.count() >= other })
	}
	for i, d := range collectors {
		for _, end := range []func(){d.kill, func() { collectors[i].stop() }} {
			waitServing("usages are acknowledged while all collectors run")
			end()
			waitServing("usages are acknowledged while a collector is down")
			collectors[i] = start(t, configs[i], d.port, d.admin)
			until(t, "the collector gets its share of requests again", func() bool { return collectors[i].metrics()[acceptedHTTP] > 300 })
		}
		signal := func(s syscall.Signal) {
			if err := collectors[i].cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		signal(syscall.SIGSTOP)
		waitServing("usages are acknowledged while a collector hangs")
		signal(syscall.SIGCONT)
	}
	over.Store(true)
	clients.Wait()
	repeats := p.countRepeats()
	for _, d := range collectors {
		d.stop()
	}

	var sum auditSummary
	lines := strings.Split(strings.TrimSpace(mustRun(t, "audit", "--deep", "--from-start", "--json", "--config", configs[0])), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil || !sum.Right || sum.Logs != len(collectors) {
		t.Errorf("audit: %v, %+v", err, sum)
	}
	stored := map[int]string{}
	again := map[bool]int{} // usages stored again, by whether the client sent keys
	records := 0
	for line := range strings.Lines(mustRun(t, "cat", "--config", configs[0])) {
		var rec storedRecord
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatal(err)
		}
		records++
		id, known := stored[rec.Usage.N]
		if known {
			again[rec.Usage.N >= 100<<20]++
		}
		if known && id != rec.ID {
			t.Errorf("usage %d is stored as %s and as %s", rec.Usage.N, id, rec.ID)
		}
		stored[rec.Usage.N] = rec.ID
	}
	for _, ids := range []map[int]string{acks.ids, r.acks.ids} {
		for n, id := range ids {
			if stored[n] != id || id[14] != '8' { // derived from a key
				t.Errorf("usage %d was acknowledged as %s and is stored as %q", n, id, stored[n])
			}
		}
	}
	acknowledged := len(acks.ids) + len(r.acks.ids)
	if len(stored) != acknowledged {
		t.Errorf("%d usages are stored, %d were acknowledged", len(stored), acknowledged)
	}
	// Clients without keys repeat nothing. If one of their usages is stored again, the proxy
	// has repeated the request.
	if again[false] > repeats || again[true] == 0 || repeats == 0 {
		t.Errorf("%d usages of clients without keys and %d of clients with keys are stored again; %d requests repeated by the proxy", again[false], again[true], repeats)
	}
	t.Logf("3 kills, 3 restarts, 3 hangs: %d usages acknowledged, no request failed; %d repeated by the proxy; %d records in %d objects, %d again under the same id (%d with a client's key)",
		acknowledged, repeats, records, sum.Objects, again[false]+again[true], again[true])
}
