package httpserver

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
)

// If only the places over TLS are taken, connections over TLS make room for each other. If
// all places are taken, the oldest stranger of all does.
func TestConnectionsOverTLSMakeRoomForEachOther(t *testing.T) {
	t.Parallel() // it waits most of the time
	ca := authtest.NewAuthority(t)
	var text syncBuffer
	limits := withoutDeadlines(Limits{MaxConnections: 5, MaxTLSConnections: 2})
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{TLS: ca.Server(t, nil)}, Limits: limits, Logger: slog.New(slog.NewTextHandler(&text, nil))})
	local := listenOn(t, "unix", t.TempDir()+"/http")
	go func() { _ = h.Serve(local) }()
	secure := func(sends string) *rawClient {
		t.Helper() // the server accepts the connection before its handshake
		v, err := dialRawTLS(t, addr, ca.Config(nil))
		if err != nil {
			t.Fatal(err)
		}
		v.send(sends)
		return v
	}
	expectStatus := func(what string, v *rawClient, want int) {
		t.Helper()
		if status, body := v.readResponse(); status != want {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	const half = "POST /api/usages HTTP/1.1\r\n"
	rest := strings.TrimPrefix(post("{}"), half)
	plain := []*rawClient{dialRawOn(t, local.Addr()), dialRawOn(t, local.Addr())}
	for _, v := range plain {
		v.send(half)
	}
	waitFor(t, func() bool { return h.Connections() == len(plain) })
	first, second := secure(half), secure(half)
	waitAged()
	client := secure(post("{}"))
	expectStatus("the oldest stranger over TLS", first, http.StatusServiceUnavailable)
	expectStatus("a client over TLS", client, http.StatusCreated)
	if n := h.MaxTLSConnections(); n != 2 {
		t.Errorf("at most %d connections over TLS, want 2", n)
	}
	waitFor(t, func() bool { return h.TLSConnections() == 2 }) // the oldest gets its answer before its connection ends
	waitFor(t, func() bool { return strings.Contains(text.String(), "http.max_tls_connections is reached") })
	for _, v := range plain { // both are still open
		v.send("X-More: y\r\n")
	}
	plain[1].send(rest)
	expectStatus("a stranger in plaintext", plain[1], http.StatusCreated)

	// With more places over TLS, all five places are taken, and the oldest stranger makes room.
	limits.MaxTLSConnections = 10
	h.SetLimits(limits)
	if h.MaxTLSConnections() != 5 {
		t.Errorf("%d connections may be over TLS, want 5", h.MaxTLSConnections())
	}
	third := secure(post("{}"))
	expectStatus("a third over TLS", third, http.StatusCreated)
	waitAged()
	fourth := secure(post("{}"))
	expectStatus("the oldest stranger of all", plain[0], http.StatusServiceUnavailable)
	expectStatus("a fourth over TLS", fourth, http.StatusCreated)
	second.send(rest)
	expectStatus("a stranger over TLS that came later", second, http.StatusCreated)
	waitFor(t, func() bool { return strings.Contains(text.String(), "http.max_connections is reached") })
	if made := h.ClosedForRoom()["header"]; made != 2 || h.TurnedAway() != 0 {
		t.Errorf("closed for room: %v, turned away: %d", h.ClosedForRoom(), h.TurnedAway())
	}
}
