//go:build torture

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestARequestThatMeetsAClosingConnectionIsAnsweredOrNotStored writes requests without keys
// into idle connections while the collector closes them. A request without an answer was
// not stored, so a proxy may repeat it.
func TestARequestThatMeetsAClosingConnectionIsAnsweredOrNotStored(t *testing.T) {
	for name, c := range map[string]struct {
		rounds      int
		stopsDaemon bool          // otherwise its idle_timeout passes
		from, until time.Duration // when the requests are written
	}{
		"idle for too long": {rounds: 15, from: 990 * time.Millisecond, until: 1290 * time.Millisecond},
		"the daemon ends":   {rounds: 25, stopsDaemon: true, until: 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const clients = 200
			config, port, admin := configure(t, t.TempDir(), "wal: {min_free: 0}\nshutdown: {drain: 0, grace: 0}\n")
			if !c.stopsDaemon {
				replaceInFile(t, config, "http: {", "http: {idle_timeout: 1s, ")
			}
			d := start(t, config, port, admin)
			acks := &acknowledged{ids: map[int]string{}}
			unanswered := 0
			for round := range c.rounds {
				conns := dialIdleClients(t, d, acks, round*2*clients, clients)
				if c.stopsDaemon {
					if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
						t.Fatal(err)
					}
				}
				var running sync.WaitGroup
				for i, conn := range conns {
					running.Go(func() {
						<-time.After(c.from + (c.until-c.from)*time.Duration(i)/clients)
						_ = conn.post(acks, (round*2+1)*clients+i) // fails if the connection is closed
						conn.Close()
					})
				}
				running.Wait()
				unanswered = (round+1)*2*clients - acks.count()
				if c.stopsDaemon {
					if err := <-d.exited; err != nil {
						t.Fatal(err)
					}
					d = start(t, config, port, admin)
				}
			}
			if unanswered == 0 {
				t.Error("no request met a connection that was being closed")
			}
			stopAndVerifyOnce(t, d, config, acks)
			t.Logf("%d requests were answered, %d were not", len(acks.ids), unanswered)
		})
	}
}

// rawClient writes each request with one system call and reads its answer.
type rawClient struct {
	net.Conn
	answers *bufio.Reader
}

// dialIdleClients connects n clients. Client i posts the usage first+i and waits for the
// answer.
func dialIdleClients(t *testing.T, d *daemon, acks *acknowledged, first, n int) (all []*rawClient) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all = append(all, &rawClient{Conn: c, answers: bufio.NewReader(c)})
	}
	var running sync.WaitGroup
	for i, c := range all {
		running.Go(func() {
			if err := c.post(acks, first+i); err != nil {
				t.Errorf("usage %d: %v", first+i, err)
			}
		})
	}
	running.Wait()
	return all
}

func (c *rawClient) post(acks *acknowledged, n int) error {
	usage := usageText(n, "http")
	_, err := fmt.Fprintf(c, "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(usage), usage)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ ID string }
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&answer), drain(resp.Body)); err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s, %w", resp.Status, err)
	}
	acks.mu.Lock()
	defer acks.mu.Unlock()
	acks.ids[n] = answer.ID
	return nil
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
