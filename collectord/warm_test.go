package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"collectord/collectord/testrun"
)

// TestAThousandWarmConnectionsNeedFewCollections checks that the soft memory limit is
// sufficiently above the memory of a thousand served connections. With a lower limit the
// garbage collector ran 200 times a second.
func TestAThousandWarmConnectionsNeedFewCollections(t *testing.T) {
	const (
		connections = 1000
		posts       = 20 // requests of each connection in a round
	)
	rounds := 6 / testrun.OneIn(6)
	requests := connections * posts * rounds
	config, port, admin := configure(t, t.TempDir(), "")
	replaceInFile(t, config, "http: {", "http: {header_timeout: 1m, ") // for clients that wait until all are connected
	d := start(t, config, port, admin)
	body := usageText(1, "http")
	request := fmt.Sprintf("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	round := func(posts int) {
		t.Helper()
		var connected, clients sync.WaitGroup
		begin := make(chan struct{})
		connected.Add(connections)
		for range connections {
			clients.Go(func() {
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				connected.Done()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				answers := bufio.NewReaderSize(c, 512)
				<-begin
				for range posts {
					if _, err := io.WriteString(c, request); err != nil {
						t.Error(err)
						return
					}
					resp, err := http.ReadResponse(answers, nil)
					if err != nil || resp.StatusCode != http.StatusCreated {
						t.Error("no 201: ", err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
		connected.Wait()
		close(begin)
		clients.Wait()
	}
	collections := func() float64 { return d.metrics()["go_gc_duration_seconds_count"] }
	round(1)
	before := collections()
	for range rounds { // the daemon's memory grows for a while
		round(posts)
	}
	n := collections() - before
	t.Logf("%v collections for %d requests; %s", n, requests, d.memory())
	if n > float64(requests/2000) {
		t.Errorf("%v collections for %d requests", n, requests)
	}
	if peak := d.memory().peak; peak > 96<<20 {
		t.Errorf("the daemon's peak is %d MiB", peak>>20)
	}
	d.stop()
}
