package httpserver

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachKindOfSlownessHasItsLimit(t *testing.T) {
	const brief = 100 * time.Millisecond
	const head = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
	for name, c := range map[string]struct {
		limits       Limits
		before       string // sent and answered first
		send         string
		dribble      string // sent repeatedly afterwards
		status       int    // of the response, or 0 for none
		wantRejected string // reason in the ledger, which counts requests whose body has begun
	}{
		"is silent":         {Limits{HeaderTimeout: brief}, "", "", "", 408, ""},
		"dribbles a header": {Limits{HeaderTimeout: brief}, "", "POST /api/usages HTTP/1.1\r\n", "X: y\r\n", 408, ""},
		"dribbles a later header": {
			Limits{HeaderTimeout: brief},
			post("{}"), "POST /api/usages HTTP/1.1\r\n", "X: y\r\n", 408, "",
		},
		"sends no body":             {Limits{BodyGrace: brief, BodyRate: 32 << 10}, "", head, "", 408, "timeout"},
		"dribbles a body":           {Limits{BodyGrace: brief, BodyRate: 32 << 10}, "", head, "{", 408, "timeout"},
		"dribbles a body in chunks": {Limits{BodyGrace: brief, BodyRate: 32 << 10}, "", strings.Replace(head, "Content-Length: 100000", "Transfer-Encoding: chunked", 1), "1\r\n{\r\n", 408, "timeout"},
		"is idle":                   {Limits{IdleTimeout: brief}, post("{}"), "", "", 0, ""},
		"waits after 100 Continue":  {Limits{BodyGrace: brief, BodyRate: 32 << 10}, "", strings.Replace(head, "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1), "", 100, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newMemoryLog()
			first := c.limits
			if c.before != "" { // the limits do not apply to the first request
				first = Limits{IdleTimeout: c.limits.IdleTimeout}
			}
			h, addr := startServer(t, log, Options{Limits: withoutDeadlines(first)})
			v := dialRaw(t, addr)
			if c.before != "" {
				v.send(c.before)
				if status, body := v.readResponse(); status != http.StatusCreated {
					t.Fatal(status, body)
				}
				h.SetLimits(withoutDeadlines(c.limits))
			}
			v.send(c.send)
			if c.dribble != "" {
				go func() {
					tick := time.NewTicker(20 * time.Millisecond)
					defer tick.Stop()
					for range tick.C {
						if _, err := io.WriteString(v, c.dribble); err != nil {
							return
						}
					}
				}()
			}
			key := "(http.body_grace, http.body_rate)"
			if c.limits.HeaderTimeout > 0 {
				key = "(http.header_timeout)"
			}
			if status, body := v.readResponse(); status != c.status || status == http.StatusRequestTimeout && !strings.Contains(body, key) {
				t.Errorf("got %d %s, want %d and %s", status, body, c.status, key)
			}
			waitFor(t, func() bool { return h.Connections() == 0 })
			log.mu.Lock()
			defer log.mu.Unlock()
			if c.wantRejected != "" && log.rejected["http "+c.wantRejected] != 1 || c.wantRejected == "" && len(log.rejected) > 0 {
				t.Errorf("rejected %v, want %q", log.rejected, c.wantRejected)
			}
		})
	}
}

// A body that arrives at the minimum rate may take as long as it needs.
func TestABodyAtTheMinimumRateIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{}.withDefaults()
		_, ln := serveInMemory(t, newMemoryLog(), Options{})
		c := ln.dial()
		defer c.Close()
		head, rest, _ := strings.Cut(post(`{"a":"`+strings.Repeat("x", 100<<10)+`"}`), "\r\n\r\n")
		began := time.Now()
		for part := head + "\r\n\r\n"; part != ""; {
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			part = rest[:min(len(rest), limits.BodyRate)]
			rest = rest[len(part):]
		}
		a, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || a.StatusCode != http.StatusCreated || time.Since(began) < 10*limits.BodyGrace {
			t.Errorf("after %v: %v %v", time.Since(began), a, err)
		}
	})
}

func TestAClientThatReadsNoResponsesIsDisconnected(t *testing.T) {
	h, addr := startServer(t, newMemoryLog(), Options{Limits: Limits{AnswerTimeout: 200 * time.Millisecond}})
	v := dialRaw(t, addr)
	// The buffer must hold some of the loopback's segments of 64 KiB. With less, the kernel
	// drops packets, also acknowledgements, and both ends retransmit ever more slowly.
	if err := v.Conn.(*net.TCPConn).SetReadBuffer(256 << 10); err != nil {
		t.Fatal(err)
	}
	request := []byte(strings.Repeat("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 1000))
	for {
		if _, err := v.Write(request); err != nil { // the server closed it, since both directions are full
			if isTimeout(err) {
				t.Error("the server does not close the connection of a client that reads no responses")
			}
			break
		}
	}
	waitFor(t, func() bool { return h.Connections() == 0 })
}
