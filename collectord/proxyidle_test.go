//go:build torture

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// sender is a client of a proxy. The numbers of its usages are unique.
type sender struct {
	url    string
	client *http.Client
	acks   *acknowledged
	last   int  // the number of its last usage
	keyed  bool // sends keys, and each request twice
	size   int  // minimum size of its usages
	chunks bool // sends chunked bodies without a length

	again bool // the next request repeats the last one
}

// makeSenders makes n senders of all kinds, whose numbers begin at from.
func makeSenders(t *testing.T, p *proxy, acks *acknowledged, from, n int) (all []*sender) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}, Timeout: testTimeout}
	t.Cleanup(client.CloseIdleConnections)
	for i := range n {
		s := &sender{
			url: fmt.Sprintf("http://127.0.0.1:%d/api/usages", p.port), client: client, acks: acks,
			last: from + i<<16, keyed: i%2 == 1, chunks: i%4 > 1,
		}
		if i%8 >= 4 { // too large for one buffer of any proxy
			s.size = 100 << 10
		}
		all = append(all, s)
	}
	return all
}

// send posts a usage and records its id. Every second call of a keyed sender repeats the
// usage of the call before.
func (s *sender) send() error {
	if !s.again {
		s.last++
	}
	s.again = s.keyed && !s.again
	text := usageText(s.last, "http")
	text = text[:len(text)-1] + fmt.Sprintf(`,"note":%q}`, strings.Repeat("x", s.size))
	var body io.Reader = strings.NewReader(text)
	if s.chunks {
		body = io.MultiReader(body)
	}
	req, err := http.NewRequest(http.MethodPost, s.url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.keyed {
		req.Header.Set("Idempotency-Key", fmt.Sprintf("usage-%d", s.last))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("usage %d: %s %s", s.last, resp.Status, answer)
	}
	var stored map[string]string
	if err := json.Unmarshal(answer, &stored); err != nil || len(stored) != 1 || len(stored["id"]) != 36 {
		return fmt.Errorf("usage %d: %s", s.last, answer)
	}
	s.acks.mu.Lock()
	defer s.acks.mu.Unlock()
	if id, known := s.acks.ids[s.last]; known && id != stored["id"] {
		return fmt.Errorf("usage %d was acknowledged as %s, and when it was repeated as %s", s.last, id, stored["id"])
	}
	s.acks.ids[s.last] = stored["id"]
	return nil
}

// sendAll makes all senders send at the same time, so that each has a connection to the
// collector.
func sendAll(t *testing.T, when string, all []*sender) {
	t.Helper()
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			if err := s.send(); err != nil {
				t.Errorf("%s: client %d: %v", when, i, err)
			}
		})
	}
	wg.Wait()
}

// upstreamConns returns the proxy's ends of the open connections to a port.
func upstreamConns(t *testing.T, port int) map[string]bool {
	t.Helper()
	table, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // sl local_address rem_address st
		if f[2] == fmt.Sprintf("0100007F:%04X", port) && f[3] == "01" {
			open[f[1]] = true
		}
	}
	return open
}

// stopAndVerifyOnce stops the collector and asserts that each acknowledged usage is stored
// once, with the id of its answer, and no other usage.
func stopAndVerifyOnce(t *testing.T, d *daemon, config string, acks *acknowledged) {
	t.Helper()
	d.stop()
	if out, err := command(t, "ship", "--config", config).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	records, _ := download(t, config)
	verifyAcknowledged(t, acks, records)
	if len(records) != len(acks.ids) {
		t.Errorf("%d usages are stored, %d were acknowledged", len(records), len(acks.ids))
	}
}

// TestProxiesFailNoRequestWhateverTheirPauses sends bursts on 16 connections through each
// proxy, with pauses between them and default timeouts. Each pause has its own proxy, so
// that connections to the collector are idle for that time unless the proxy closes them.
func TestProxiesFailNoRequestWhateverTheirPauses(t *testing.T) {
	const clients, lasts = 16, 91 * time.Second
	var pauses []time.Duration
	for _, seconds := range []float64{0, 1, 5, 30, 74, 75, 75.1, 75.2, 76, 90} { // http.idle_timeout is 75s
		pauses = append(pauses, time.Duration(seconds*float64(time.Second)))
	}
	for name, front := range proxies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, port, admin := configure(t, t.TempDir(), "wal: {min_free: 0}\nshutdown: {grace: 0}\n")
			ports := freePorts(t, len(pauses))
			listen := fmt.Sprintf("'127.0.0.1:%d'", port)
			for _, p := range ports {
				listen += fmt.Sprintf(", '127.0.0.1:%d'", p)
			}
			replaceInFile(t, config, fmt.Sprintf("http: {listen: '127.0.0.1:%d'", port), "http: {listen: ["+listen+"]")
			d := start(t, config, port, admin)
			acks := &acknowledged{ids: map[int]string{}}
			var running sync.WaitGroup
			for i, pause := range pauses {
				p := front(t, false, &daemon{t: t, port: ports[i]})
				all := makeSenders(t, p, acks, i<<24, clients)
				running.Go(func() {
					began, bursts, kept := time.Now(), 1, 0
					sendAll(t, fmt.Sprintf("%v, at first", pause), all)
					for bursts < 2000 && time.Since(began)+pause < lasts {
						before := upstreamConns(t, ports[i])
						<-time.After(pause)
						sendAll(t, fmt.Sprintf("after %v", pause), all)
						bursts++
						for end := range upstreamConns(t, ports[i]) {
							if before[end] {
								kept++
							}
						}
					}
					t.Logf("%6v: %4d bursts of %d requests; %.1f connections to the collector were kept during a pause, on average", pause, bursts, clients, float64(kept)/float64(bursts-1))
					if kept == 0 && pause <= time.Second {
						t.Errorf("%v: no connection to the collector was used again", pause)
					}
				})
			}
			running.Wait()
			stopAndVerifyOnce(t, d, config, acks)
			t.Logf("%d usages, each stored once", len(acks.ids))
		})
	}
}

// TestProxiesThatHoldConnectionsForLongFailNoRequest sends through proxies that keep
// connections longer than the collector, which closes them meanwhile.
func TestProxiesThatHoldConnectionsForLongFailNoRequest(t *testing.T) {
	const clients, bursts = 24, 40
	for name, front := range proxies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, port, admin := configure(t, t.TempDir(), "wal: {min_free: 0}\nshutdown: {grace: 0}\n")
			replaceInFile(t, config, "http: {", "http: {idle_timeout: 1s, ")
			d := start(t, config, port, admin)
			p := front(t, true, d)
			acks := &acknowledged{ids: map[int]string{}}
			all := makeSenders(t, p, acks, 0, clients)
			for i := range bursts {
				pause := time.Second + time.Duration(i*7%bursts)*5*time.Millisecond
				sendAll(t, fmt.Sprintf("after %v", pause), all)
				<-time.After(pause)
			}
			stopAndVerifyOnce(t, d, config, acks)
			t.Logf("%d usages, each stored once; %d requests repeated by the proxy", len(acks.ids), p.countRepeats())
		})
	}
}
