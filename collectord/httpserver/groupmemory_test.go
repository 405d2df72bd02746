package httpserver

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Strangers make room when the control group has little memory left, over TCP and unix
// sockets. Clients never do, and are still served.
func TestStrangersMakeRoomForTheMemoryOfTheGroup(t *testing.T) {
	t.Parallel() // it waits most of the time
	var text syncBuffer
	h, addr := startServer(t, newMemoryLog(), Options{Limits: withoutDeadlines(Limits{}), Logger: slog.New(slog.NewTextHandler(&text, nil))})
	client := dialRaw(t, addr)
	client.send(post("{}"))
	if status, body := client.readResponse(); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	const strangers = 3 * minCut
	for i := range strangers {
		v := dialRaw(t, addr)
		if i%2 == 0 {
			v.send("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
		} else {
			v.send("POST /api")
		}
	}
	waitFor(t, func() bool { return h.Connections() == 1+strangers })
	waitAged()
	h.SetSpareMemory(-1)
	waitFor(t, func() bool { return h.Connections() == 1+strangers-minCut })
	waitFor(t, func() bool {
		h.SetSpareMemory(-1 << 30)
		return h.Connections() == 1
	})
	if n := h.ClosedForMemory(); n != strangers {
		t.Errorf("%d connections were closed for memory, want %d", n, strangers)
	}
	client.send(post("{}"))
	if status, body := client.readResponse(); status != http.StatusCreated {
		t.Errorf("%d %s", status, body)
	}
	fresh := dialRaw(t, addr)
	fresh.send(post("{}"))
	if status, body := fresh.readResponse(); status != http.StatusCreated {
		t.Errorf("a new client: %d %s", status, body)
	}
	waitFor(t, func() bool { return strings.Contains(text.String(), "little memory is left of the control group's limit") })
}

// No more connections are accepted than the memory suffices for. The others are not lost:
// they wait.
func TestConnectionsWaitForTheMemoryOfTheGroup(t *testing.T) {
	t.Parallel() // it waits most of the time
	h, addr := startServer(t, newMemoryLog(), Options{Limits: withoutDeadlines(Limits{})})
	h.SetSpareMemory(0)
	const all = 3 * minAccepts
	var waiting []*rawClient
	for range all {
		v := dialRaw(t, addr)
		v.send(post("{}"))
		waiting = append(waiting, v)
	}
	<-h.SpareWanted()
	// The listener was waiting in accept(2) before the memory was known.
	waitFor(t, func() bool { return h.Connections() == minAccepts || h.Connections() == minAccepts+1 })
	h.SetSpareMemory(minAccepts * h.opts.maxBuffered())
	waitFor(t, func() bool { return h.Connections() >= 2*minAccepts && h.Connections() <= 2*minAccepts+1 })
	h.UnlimitMemory()
	for _, v := range waiting {
		if status, body := v.readResponse(); status != http.StatusCreated {
			t.Errorf("%d %s", status, body)
		}
	}
	if h.AcceptsDelayed() == 0 {
		t.Error("no delay was counted")
	}
}

// The kernel keeps nothing of an answer that its client does not read, once the connection
// is closed.
func TestAnAnswerThatIsNotReadIsDropped(t *testing.T) {
	t.Parallel() // it waits most of the time
	h, addr := startServer(t, newMemoryLog(), Options{Limits: Limits{AnswerTimeout: 300 * time.Millisecond}})
	v := dialRaw(t, addr)
	_ = v.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	v.send(post(strings.Repeat("{}\n", 20_000), ndjsonHeader, "Prefer: return=representation"))
	waitFor(t, func() bool { return h.Requests()[http.StatusCreated] == 1 && h.Connections() == 0 })
	if _, err := io.Copy(io.Discard, v); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}
