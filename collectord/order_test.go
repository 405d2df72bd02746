package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestObjectsOfBatchesAndDatagramsAreHealthy sends HTTP batches and datagrams at the same
// time, and reads back every object.
func TestObjectsOfBatchesAndDatagramsAreHealthy(t *testing.T) {
	t.Parallel()
	config, port, admin := configure(t, t.TempDir(), "wal: {segment_size: 4MiB, min_free: 0}\nshutdown: {drain: 1ms, grace: 2m}\n")
	d := start(t, config, port, admin)
	const clients, batches, each = 6, 8, 1500
	var body bytes.Buffer
	for i := range each {
		fmt.Fprintf(&body, `{"n":%d,"x":"%s"}`+"\n", i, strings.Repeat("x", 400))
	}
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", d.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stop := make(chan struct{})
	var posting, sending sync.WaitGroup
	sending.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = conn.Write([]byte(usageText(i, "udp"))) // the kernel may drop some
			}
		}
	})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	for range clients {
		posting.Go(func() {
			for range batches {
				resp, err := client.Post(d.url(), "application/x-ndjson", bytes.NewReader(body.Bytes()))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					t.Error(resp.Status)
				}
			}
		})
	}
	posting.Wait()
	close(stop)
	sending.Wait()
	client.CloseIdleConnections()
	if n := d.metrics()[`collectord_usages_appended_total{source="udp"}`]; n == 0 {
		t.Error("no datagram was stored: the test proves nothing")
	}
	d.stop()
	out, stderr, status := runCollectord(t, "audit", "--config", config, "--deep", "--from-start")
	if status != 0 {
		t.Errorf("audit --deep exits with %d: %s%s", status, out, stderr)
	}
}
