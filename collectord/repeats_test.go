package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// repeater posts batches of all kinds with an Idempotency-Key. It repeats each batch until
// it is answered.
type repeater struct {
	t      *testing.T
	url    string
	client http.Client
	acks   acknowledged

	mu      sync.Mutex
	repeats int // of requests that failed or were refused
	over    bool
}

// batch returns the usages of the k-th batch, and a function that makes a request of them.
func (r *repeater) batch(k int) (usages []string, req func() *http.Request) {
	rng := rand.New(rand.NewPCG(uint64(k), 7))
	n := 1
	if k%4 > 0 {
		n = 1 + rng.IntN(40)
	}
	for i := range n {
		usages = append(usages, usageText(k*100+i, "http"))
	}
	text, kind := usages[0], "application/json"
	switch k % 4 {
	case 1, 2:
		text = "[" + strings.Join(usages, ",") + "]"
	case 3:
		text, kind = strings.Join(usages, "\n"), "application/x-ndjson"
	}
	body := []byte(text)
	if k%4 == 2 {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
		body = b.Bytes()
	}
	return usages, func() *http.Request {
		req, err := http.NewRequest(http.MethodPost, r.url, bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		req.Header.Set("Content-Type", kind)
		if k%4 == 2 {
			req.Header.Set("Content-Encoding", "gzip")
		}
		req.Header.Set("Prefer", "return=representation")
		req.Header.Set("Idempotency-Key", fmt.Sprintf("batch-%d", k))
		return req
	}
}

// deliver repeats the k-th request until it is answered or the test ends.
func (r *repeater) deliver(k int) {
	usages, req := r.batch(k)
	for {
		resp, err := r.client.Do(req())
		if err == nil {
			body, readErr := io.ReadAll(resp.Body)
			resp.Body.Close()
			switch {
			case readErr != nil: // an incomplete answer does not count
			case resp.StatusCode == http.StatusCreated:
				var answer struct {
					ID  string
					IDs []string
				}
				if err := json.Unmarshal(body, &answer); err != nil {
					r.t.Errorf("batch %d: %v", k, err)
				}
				if answer.ID != "" {
					answer.IDs = []string{answer.ID}
				}
				if len(answer.IDs) != len(usages) {
					r.t.Errorf("batch %d of %d usages: %s", k, len(usages), body)
					return
				}
				r.acks.mu.Lock()
				defer r.acks.mu.Unlock()
				for i, id := range answer.IDs {
					if first, known := r.acks.ids[k*100+i]; known && first != id {
						r.t.Errorf("usage %d was acknowledged as %s, and when it was repeated as %s", k*100+i, first, id)
					}
					r.acks.ids[k*100+i] = id
				}
				return
			case resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusConflict:
				r.t.Errorf("batch %d: %s %s", k, resp.Status, body)
				return
			}
		}
		r.mu.Lock()
		r.repeats++
		over := r.over
		r.mu.Unlock()
		if over {
			return
		}
		<-time.After(2 * time.Millisecond)
	}
}

// TestUsagesRepeatedUntilAnsweredHaveOneID kills the daemon while clients repeat each batch
// until it is answered.
func TestUsagesRepeatedUntilAnsweredHaveOneID(t *testing.T) {
	t.Parallel()
	const clients = 16
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, seal_after: 200ms, min_free: 0}\n")
	d := start(t, config, port, admin)
	r := &repeater{
		t: t, url: d.url(), acks: acknowledged{ids: map[int]string{}},
		client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: testTimeout},
	}
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	t.Cleanup(func() {
		end()
		r.mu.Lock()
		r.over = true
		r.mu.Unlock()
	})
	var running sync.WaitGroup
	for c := range clients {
		running.Go(func() {
			for k := c; ; k += clients {
				select {
				case <-stop:
					return
				default:
					r.deliver(k)
				}
			}
		})
	}
	for range *killRounds {
		more := r.acks.count() + 500 + rand.IntN(2000)
		until(t, "enough usages are acknowledged", func() bool { return r.acks.count() >= more })
		d.kill()
		d = start(t, config, port, admin)
	}
	end()
	running.Wait()
	d.stop()

	records, objects := download(t, config)
	stored := map[int]string{}
	again := 0
	for _, rec := range records {
		id, known := stored[rec.Usage.N]
		if known {
			again++
		}
		if known && id != rec.ID {
			t.Errorf("usage %d is stored as %s and as %s", rec.Usage.N, id, rec.ID)
		}
		stored[rec.Usage.N] = rec.ID
	}
	for n, id := range r.acks.ids {
		if stored[n] != id {
			t.Errorf("usage %d was acknowledged as %s and is stored as %q", n, id, stored[n])
		}
	}
	if len(stored) != len(r.acks.ids) {
		t.Errorf("%d usages are stored, %d were acknowledged", len(stored), len(r.acks.ids))
	}
	t.Logf("%d kills: %d usages acknowledged after %d repeats of requests; %d records in %d objects, %d of them repeats under the same id",
		*killRounds, len(r.acks.ids), r.repeats, len(records), objects, again)
	if r.repeats == 0 {
		t.Error("no request had to be repeated")
	}
}
