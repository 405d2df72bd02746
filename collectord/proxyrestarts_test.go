//go:build torture

package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestProxiesHideRestartsOfTheirOnlyCollector restarts the collector under load and passes
// its sockets on. Half of the clients send without a pause. The others pause long enough
// that their connections to the collector are idle when it ends.
func TestProxiesHideRestartsOfTheirOnlyCollector(t *testing.T) {
	const clients, restarts, enough = 16, 8, 200
	for name, front := range proxies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startManager(t, filepath.Join(t.TempDir(), "notify"))
			config, port, admin := configure(t, t.TempDir(), "wal: {min_free: 0}\nshutdown: {grace: 0}\n")
			d := m.run(nil, config, port, admin)
			p := front(t, false, d)
			acks, stop := &acknowledged{ids: map[int]string{}}, make(chan struct{})
			var running sync.WaitGroup
			end := sync.OnceFunc(func() { close(stop); running.Wait() })
			t.Cleanup(end)
			for i, s := range makeSenders(t, p, acks, 0, clients) {
				// A restarted collector does not know the keys of earlier requests.
				s.keyed = false
				running.Go(func() {
					for {
						if err := s.send(); err != nil {
							t.Errorf("client %d: %v", i, err)
							return
						}
						pause := time.Duration(i%2*(700+20*i)) * time.Millisecond
						select {
						case <-stop:
							return
						case <-time.After(pause):
						}
					}
				})
			}
			for range restarts {
				more := acks.count() + enough
				until(t, "enough usages are acknowledged", func() bool { return acks.count() >= more || t.Failed() })
				d.stop()
				d = m.run(nil, config, port, admin)
			}
			more := acks.count() + enough
			until(t, "enough usages are acknowledged", func() bool { return acks.count() >= more || t.Failed() })
			end()
			stopAndVerifyOnce(t, d, config, acks)
			t.Logf("%d restarts: %d usages, each stored once; %d requests repeated by the proxy", restarts, len(acks.ids), p.countRepeats())
		})
	}
}

// TestProxiesPassOverACollectorThatRefuses fills the log of one of two collectors, and then
// of both.
func TestProxiesPassOverACollectorThatRefuses(t *testing.T) {
	for name, front := range proxies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const full, free = "wal: {min_free: 1000000GiB}", "wal: {min_free: 0}"
			var configs []string
			var collectors []*daemon
			for _, settings := range []string{full, free} {
				config, port, admin := configure(t, t.TempDir(), settings+"\nshutdown: {grace: 0}\n")
				configs = append(configs, config)
				collectors = append(collectors, start(t, config, port, admin))
			}
			p := front(t, false, collectors...)
			acks := &acknowledged{ids: map[int]string{}}
			all := makeSenders(t, p, acks, 0, 4) // no usage is too large for a proxy to repeat
			for range 20 {
				sendAll(t, "one collector is full", all)
			}
			refused := collectors[0].metrics()[`collectord_http_requests_total{status="503"}`]
			if refused == 0 {
				t.Error("the full collector got no request")
			}
			t.Logf("%v requests were refused by the full collector", refused)

			collectors[1].rewriteConfig(configs[1], free, full)
			collectors[1].untilLogged("wal.min_free: 0 -> ")
			resp, err := http.Post(all[0].url, "application/json", strings.NewReader(usageText(0, "http")))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if after := resp.Header.Get("Retry-After"); resp.StatusCode != http.StatusServiceUnavailable || after == "" {
				t.Errorf("both collectors are full: %s, Retry-After %q", resp.Status, after)
			}
			collectors[1].rewriteConfig(configs[1], full, free)
			stopAndVerifyOnce(t, collectors[1], configs[1], acks)
		})
	}
}
