package httpserver

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/auth"
)

// waitAged waits until all open connections are older than strangerGrace. By then, idle
// connections have been idle for longer than clientMinIdle.
func waitAged() { <-time.After(strangerGrace + 100*time.Millisecond) }

// A stranger in any state makes room before an idle client does. The oldest stranger is
// first. A stranger gets a response if it has begun a request.
func TestStrangersMakeRoomBeforeClients(t *testing.T) {
	tokens, headers := newTokens(t, "ward-3")
	bearer := headers[0] + "\r\n"
	const head = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\n"
	for name, c := range map[string]struct {
		policy auth.Policy
		client string // header of a client's request
		send   string // sent by a stranger
		kind   string
		status int // of the response to the stranger; 0 for none
	}{
		"half a header":            {auth.Policy{Tokens: tokens}, bearer, head, "header", 503},
		"half a header, no tokens": {auth.Policy{}, "", head, "header", 503},
		"a slow body, no tokens":   {auth.Policy{}, "", head + "Content-Length: 100000\r\n\r\n" + strings.Repeat(" ", 5000), "body", 503},
		"idle after 404":           {auth.Policy{Tokens: tokens}, bearer, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "idle", 404},
		"idle after 200":           {auth.Policy{Tokens: tokens}, bearer, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "idle", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			h, addr := startServer(t, newMemoryLog(), Options{Policy: c.policy, Limits: withoutDeadlines(Limits{MaxConnections: 4})})
			client := dialRaw(t, addr)
			postOnce := func(v *rawClient) {
				t.Helper()
				v.send(head + c.client + "Content-Length: 2\r\n\r\n{}")
				if status, body := v.readResponse(); status != http.StatusCreated {
					t.Errorf("%d %s", status, body)
				}
			}
			postOnce(client)
			var strangers []*rawClient
			for i := range 3 {
				v := dialRaw(t, addr)
				v.send(c.send)
				waitFor(t, func() bool { return h.Connections() == 2+i })
				strangers = append(strangers, v)
			}
			waitAged()
			for range 3 {
				postOnce(dialRaw(t, addr))
			}
			for i, v := range strangers {
				if status, body := v.readResponse(); status != c.status {
					t.Errorf("stranger %d: %d %s, want %d", i, status, body, c.status)
				}
			}
			if h.ClosedForRoom()[c.kind] != 3 {
				t.Errorf("closed for room: %v", h.ClosedForRoom())
			}
			postOnce(client) // over its first connection
		})
	}
}

// An authenticated request with a slow body is not cut off, and neither is a request whose
// usages are being stored.
func TestAuthenticatedOrStoringConnectionsAreNeverCutOff(t *testing.T) {
	t.Parallel() // it waits most of the time
	tokens, headers := newTokens(t, "ward-3")
	log := newMemoryLog()
	log.appendStarted, log.continueAppend = make(chan struct{}), make(chan struct{})
	_, addr := startServer(t, log, Options{Policy: auth.Policy{Tokens: tokens}, Limits: withoutDeadlines(Limits{MaxConnections: 2})})
	slow := dialRaw(t, addr)
	body := `{"a":"` + strings.Repeat("x", 5000) + `"}`
	slow.send(fmt.Sprintf("POST /api/usages HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Length: %d\r\n\r\n%s", headers[0], len(body), body[:4000]))

	open := newMemoryLog()
	open.appendStarted, open.continueAppend = make(chan struct{}), make(chan struct{})
	_, anonymous := startServer(t, open, Options{Limits: withoutDeadlines(Limits{MaxConnections: 2})})
	held, release := occupyConnections(t, open, anonymous, 2)

	waitAged()
	for range 10 { // the first takes the second place
		_, _ = io.WriteString(dialRaw(t, addr), "GET") // the connection may be cut off already
		<-time.After(2 * connMinTime)
	}
	v := dialRaw(t, anonymous)
	v.send(post("{}"))
	if status, body := v.readResponse(); status != http.StatusServiceUnavailable {
		t.Errorf("the third connection: %d %s, want 503", status, body)
	}
	release()
	for i, v := range held {
		if status, body := v.readResponse(); status != http.StatusCreated {
			t.Errorf("client %d that waits for the log: %d %s", i, status, body)
		}
	}
	slow.send(body[4000:])
	<-log.appendStarted
	close(log.continueAppend)
	if status, body := slow.readResponse(); status != http.StatusCreated {
		t.Errorf("the slow request: %d %s", status, body)
	}
}

// A connection that is cut off gets 503, and its usages are never stored.
func TestACutOffConnectionStoresNothing(t *testing.T) {
	t.Parallel() // it waits most of the time
	log := newMemoryLog()
	h, addr := startServer(t, log, Options{Limits: Limits{MaxConnections: 4}})
	var clients sync.WaitGroup
	var mu sync.Mutex
	created := 0
	for range 16 {
		clients.Go(func() {
			for range 25 {
				v := dialRaw(t, addr)
				// The connection may be cut off already.
				_, _ = io.WriteString(v, "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
				<-time.After(connMinTime)
				_, _ = io.WriteString(v, "{}")
				if status, _ := v.readResponse(); status == http.StatusCreated {
					mu.Lock()
					created++
					mu.Unlock()
				}
				v.Close()
			}
		})
	}
	clients.Wait()
	waitFor(t, func() bool { return h.Connections() == 0 })
	log.mu.Lock()
	defer log.mu.Unlock()
	if created != len(log.usages) || created == 0 || h.ClosedForRoom()["header"]+h.ClosedForRoom()["body"] == 0 {
		t.Errorf("%d responses 201, %d stored; closed for room: %v", created, len(log.usages), h.ClosedForRoom())
	}
}

// Each sweep logs at most one line about connections that made room. One more line is logged
// when no connection makes room any more.
func TestAShortageOfConnectionsIsLoggedOnce(t *testing.T) {
	t.Parallel() // it waits most of the time
	var mu sync.Mutex
	var text strings.Builder
	logger := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil))
	h, addr := startServer(t, newMemoryLog(), Options{Limits: withoutDeadlines(Limits{MaxConnections: 2}), Logger: logger})
	began := time.Now()
	for range 30 {
		_, _ = io.WriteString(dialRaw(t, addr), "GET") // the connection may be cut off already
		<-time.After(connMinTime)
	}
	const reached, over = "http.max_connections is reached", "no connection makes room or is turned away any more"
	waitFor(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.LastIndex(text.String(), over) > strings.LastIndex(text.String(), reached)
	})
	mu.Lock()
	defer mu.Unlock()
	// On a machine that pauses in between, the shortage may end more than once.
	n, ends := strings.Count(text.String(), reached), strings.Count(text.String(), over)
	if sweeps := 1 + int(time.Since(began)/sweepEvery); n == 0 || n > sweeps || ends > 1+int(time.Since(began)/calmAfter) || strings.Count(text.String(), "trouble=connections") != n+ends {
		t.Errorf("log: %s", text.String())
	}
	if made := h.ClosedForRoom(); made["header"]+made["silent"]+h.TurnedAway() < 28 {
		t.Errorf("closed for room: %v, turned away: %d", h.ClosedForRoom(), h.TurnedAway())
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// The sweep repeats while connections are open. It also repeats until the end of a shortage
// is logged.
func TestSweepsRepeatWhileTheyAreNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &newServer(t, newMemoryLog(), Options{}).conns
		s.sweepTimer = time.AfterFunc(time.Hour, func() {})
		for _, row := range []struct {
			open, reached, follows bool
		}{{true, false, true}, {false, true, true}, {false, false, false}} {
			s.sweepTimer.Stop()
			s.open = map[*conn]struct{}{}
			if row.open {
				s.open[s.server.newConn(&deadlineConn{})] = struct{}{}
			}
			s.room.shortageReported, s.room.lastChange = row.reached, time.Now()
			if s.sweepAll(time.Now()); s.sweepTimer.Stop() != row.follows {
				t.Errorf("%+v: another sweep follows: %t", row, !row.follows)
			}
		}
	})
}
