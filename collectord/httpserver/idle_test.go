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

// visitor is a raw connection to a server.
type visitor struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func visit(t *testing.T, addr string) *visitor {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &visitor{t, c, bufio.NewReader(c)}
}

func (v *visitor) send(s string) {
	v.t.Helper()
	if _, err := io.WriteString(v, s); err != nil {
		v.t.Fatal(err)
	}
}

// answer returns the next answer's status and body, or 0 once it is closed.
func (v *visitor) answer() (status int, body string) {
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
	h, addr := serve(t, newMemoryLog(), Options{Limits: Limits{MaxConnections: 3}})
	var held []*visitor
	for range 3 {
		v := visit(t, addr)
		v.send(post(`{"a":1}`))
		if status, body := v.answer(); status != http.StatusCreated {
			t.Fatal(status, body)
		}
		held = append(held, v)
	}
	held[0].send("POST /api/usages HTTP/1.1\r\n") // busy; the other two are idle
	oldest := func() (since int64) {
		h.open.mu.Lock()
		defer h.open.mu.Unlock()
		for c := range h.open.open {
			if s := c.idleSince.Load(); s != 0 && (since == 0 || s < since) {
				since = s
			}
		}
		return since
	}
	waitFor(t, func() bool {
		return oldest() != 0 && h.open.deadline(time.Now())-oldest() > int64(idleAfter)+int64(100*time.Millisecond)
	})
	for i := range 2 {
		v := visit(t, addr)
		v.send(post(`{"a":1}`))
		if status, body := v.answer(); status != http.StatusCreated {
			t.Errorf("newcomer %d: %d %s", i, status, body)
		}
	}
	for i := 1; i < 3; i++ {
		if status, body := held[i].answer(); status != 0 {
			t.Errorf("idle connection %d was answered %d %s", i, status, body)
		}
	}
	v := visit(t, addr) // the newcomers are in use
	v.send(post(`{"a":1}`))
	if status, body := v.answer(); status != http.StatusServiceUnavailable || !strings.Contains(body, CodeOverloaded) {
		t.Errorf("beyond: %d %s", status, body)
	}
	held[0].send("Host: localhost\r\nContent-Length: 2\r\n\r\n{}")
	if status, body := held[0].answer(); status != http.StatusCreated {
		t.Errorf("the busy one: %d %s", status, body)
	}
	waitFor(t, func() bool { return h.Connections() <= 3 }) // those that made room count until they are closed
}

// What has arrived on a connection means that it is idle no more, even if the
// server has not read it yet.
func TestWhatHasArrivedIsSeenUnread(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	v := visit(t, ln.Addr().String())
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if unread(c) {
		t.Error("nothing was sent")
	}
	v.send("x")
	waitFor(t, func() bool { return unread(c) })
}

// A client that sends its request along with the connection is told, not reset.
func TestWhoIsTurnedAwayHearsIt(t *testing.T) {
	log := newMemoryLog()
	log.entered, log.leave = make(chan struct{}), make(chan struct{})
	h, addr := serve(t, log, Options{Limits: Limits{MaxConnections: 1}})
	_, release := busy(t, log, addr, 1)
	defer release()
	request := post(`{"a":"` + strings.Repeat("x", 30<<10) + `"}`)
	for i := range 200 {
		v := visit(t, addr)
		v.send(request)
		status, body := v.answer()
		v.Close()
		if status != http.StatusServiceUnavailable || !strings.Contains(body, CodeOverloaded) {
			t.Fatalf("client %d: %d %s", i, status, body)
		}
	}
	waitFor(t, func() bool { return h.open.leaving.Load() == 0 })
}
