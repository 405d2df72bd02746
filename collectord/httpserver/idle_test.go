package httpserver

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// rawClient is a connection to a server, without an HTTP client.
type rawClient struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dialRaw(t *testing.T, addr string) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	return &rawClient{t, c, bufio.NewReader(c)}
}

func (v *rawClient) send(s string) {
	v.t.Helper()
	if _, err := io.WriteString(v, s); err != nil {
		v.t.Fatal(err)
	}
}

// readResponse returns the next response's status and body, or 0 if the connection is closed.
func (v *rawClient) readResponse() (status int, body string) {
	v.t.Helper()
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Error(err)
	}
	return resp.StatusCode, string(b)
}

func TestIdleConnectionsMakeRoomBeforeAnyIsTurnedAway(t *testing.T) {
	t.Parallel()
	h, addr := startServer(t, newMemoryLog(), Options{Limits: withoutDeadlines(Limits{MaxConnections: 3})})
	var held []*rawClient
	for range 3 {
		v := dialRaw(t, addr)
		v.send(post(`{"a":1}`))
		if status, body := v.readResponse(); status != http.StatusCreated {
			t.Fatal(status, body)
		}
		held = append(held, v)
	}
	waitFor(t, func() bool { // the server sees all as idle
		h.conns.mu.Lock()
		defer h.conns.mu.Unlock()
		n := 0
		for c := range h.conns.open {
			if c.idleSince.Load() != 0 {
				n++
			}
		}
		return n == 3
	})
	held[0].send("POST /api/usages HTTP/1.1\r\n") // this connection is busy, the other two are idle
	// setIdleSince waits until n connections are idle, and sets the time at which they became
	// idle.
	setIdleSince := func(n int, since time.Time) {
		t.Helper()
		waitFor(t, func() bool {
			h.conns.mu.Lock()
			defer h.conns.mu.Unlock()
			idle := 0
			for c := range h.conns.open {
				at := h.conns.deadline(since)
				c.queuedSince = at // also of the busy one, which is the first in the queue
				if was := c.idleSince.Load(); was != 0 && c.idleSince.CompareAndSwap(was, at) {
					idle++
				}
			}
			return idle == n
		})
	}
	setIdleSince(2, time.Now().Add(-clientMinIdle))
	for i := range 2 {
		v := dialRaw(t, addr)
		v.send(post(`{"a":1}`))
		if status, body := v.readResponse(); status != http.StatusCreated {
			t.Errorf("new connection %d: %d %s", i, status, body)
		}
	}
	for i := 1; i < 3; i++ {
		if status, body := held[i].readResponse(); status != 0 {
			t.Errorf("idle connection %d: %d %s, want no response", i, status, body)
		}
	}
	setIdleSince(2, time.Now().Add(time.Hour)) // idle for less than clientMinIdle, even on a slow machine
	v := dialRaw(t, addr)
	v.send(post(`{"a":1}`))
	if status, body := v.readResponse(); status != http.StatusServiceUnavailable || !strings.Contains(body, CodeOverloaded) {
		t.Errorf("beyond the limit: %d %s", status, body)
	}
	held[0].send("Host: localhost\r\nContent-Length: 2\r\n\r\n{}")
	if status, body := held[0].readResponse(); status != http.StatusCreated {
		t.Errorf("the busy connection: %d %s", status, body)
	}
	waitFor(t, func() bool { return h.Connections() <= 3 }) // ending connections count until they are closed
}

// A connection with arrived bytes is not idle, even if the server has not read them.
func TestArrivedBytesAreSeenBeforeTheyAreRead(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	v := dialRaw(t, ln.Addr().String())
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if hasUnread(c) {
		t.Error("unread bytes before any was sent")
	}
	v.send("x")
	waitFor(t, func() bool { return hasUnread(c) })
}

// A client that sends its request at once receives the response, and no reset.
func TestAConnectionTurnedAwayGetsAResponse(t *testing.T) {
	log := newMemoryLog()
	log.appendStarted, log.continueAppend = make(chan struct{}), make(chan struct{})
	h, addr := startServer(t, log, Options{Limits: withoutDeadlines(Limits{MaxConnections: 1})})
	_, release := occupyConnections(t, log, addr, 1)
	defer release()
	request := post(`{"a":"` + strings.Repeat("x", 30<<10) + `"}`)
	responses := 0
	for i := range 200 {
		began := time.Now()
		v := dialRaw(t, addr)
		_, err := io.WriteString(v, request)
		status, body := v.readResponse()
		v.Close()
		if time.Since(began) >= turnAwayTime { // the server reads for no longer
			continue
		}
		if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, CodeOverloaded) {
			t.Fatalf("client %d: %v, %d %s", i, err, status, body)
		}
		responses++
	}
	if responses == 0 {
		t.Error("the machine is too slow for this test")
	}
	waitFor(t, func() bool { return h.conns.turningAway.Load() == 0 })
}
