package httpserver

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
	"collectord/collectord/testrun"
)

// keepAliveClient is a client with one connection.
type keepAliveClient struct {
	name      string
	conn      net.Conn
	responses *bufio.Reader
}

func (n *keepAliveClient) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(n.conn, text); err != nil {
		t.Fatal(err)
	}
}

// readResponse returns the next response, without its date.
func (n *keepAliveClient) readResponse(t *testing.T) string {
	t.Helper()
	a, err := http.ReadResponse(n.responses, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(a.Body)
	if err != nil || a.Close {
		t.Fatal(err, a.Status)
	}
	a.Header.Del("Date")
	return fmt.Sprintln(a.Status, a.Header, string(body))
}

// pairOfClients are two clients of one server, each with a connection and a token.
type pairOfClients struct {
	server  *Server
	log     *memoryLog
	headers []string
	clients [2]interface {
		send(t *testing.T, text string)
		readResponse(t *testing.T) string
	}
	loop *loop // if it drives both connections
}

var pairNames = [2]string{"ada", "bob"}

// shapes returns requests of a client.
func (p *pairOfClients) shapes(t *testing.T, client int) []string {
	name, token := pairNames[client], p.headers[client]
	one := fmt.Sprintf(`{"%s":1}`, name)
	return []string{
		post(one, token),
		postChunked(one+"\n{\n"+one, token, ndjsonHeader, "Prefer: return=representation"),
		post(compress(t, "gzip", "["+one+","+one+"]"), token, "Content-Encoding: gzip", "Idempotency-Key: k"),
		post(one[1:], token),
		"PUT /" + name + " HTTP/1.1\r\nHost: " + name + "\r\nContent-Length: 3\r\n\r\n" + name,
	}
}

// outcome returns the responses to one request of each client, and all that was stored and
// counted.
func (p *pairOfClients) outcome(t *testing.T, exchange func(read func(client int))) string {
	t.Helper()
	log, h := p.log, p.server
	log.mu.Lock()
	log.usages, log.clients, log.ids, log.rejected = nil, nil, nil, map[string]int{}
	log.mu.Unlock()
	h.window = newWindow(h.opts.IdempotencyKeys, h.opts.IdempotencyWindow)
	before := h.Requests()
	var responses [2]string
	exchange(func(client int) { responses[client] = p.clients[client].readResponse(t) })
	after := h.Requests()
	for status := range after {
		after[status] -= before[status]
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	for i, usage := range log.usages {
		if !strings.Contains(usage, log.clients[i]) {
			t.Fatalf("%s is stored for %s", usage, log.clients[i])
		}
	}
	for client, read := range responses {
		if strings.Contains(read, pairNames[1-client]) {
			t.Fatalf("%s got the response %s", pairNames[client], read)
		}
	}
	used := 0
	if p.loop != nil {
		used = p.loop.bytesInUse()
	}
	return fmt.Sprint(responses, log.usages, log.clients, log.ids, log.rejected, after, h.inFlight.free, h.small.free, h.storing.free, used)
}

// interleave sends requests of both clients at the same time, split at each byte. The outcome
// is the same as if the clients had sent one after the other. Each byte is tried with one
// request of the other client; TEST_ALL=1 tries it with all of them.
func (p *pairOfClients) interleave(t *testing.T) {
	step := testrun.OneIn(len(p.shapes(t, 0)))
	for first := range p.clients {
		a, b := p.clients[first], p.clients[1-first]
		for _, x := range p.shapes(t, first) {
			for nth, y := range p.shapes(t, 1-first) {
				oneByOne := p.outcome(t, func(read func(int)) {
					a.send(t, x)
					read(first)
					b.send(t, y)
					read(1 - first)
				})
				within := p.outcome(t, func(read func(int)) {
					b.send(t, y)
					read(1 - first)
					a.send(t, x)
					read(first)
				})
				for at := 1 + nth%step; at < len(x); at += step {
					cut := 1 + at%(len(y)-1)
					if got := p.outcome(t, func(read func(int)) {
						a.send(t, x[:at])
						b.send(t, y[:cut])
						a.send(t, x[at:])
						read(first)
						b.send(t, y[cut:])
						read(1 - first)
					}); got != oneByOne {
						t.Fatalf("%q cut at %d, %q at %d:\n got %s\nwant %s", x, at, y, cut, got, oneByOne)
					}
					if got := p.outcome(t, func(read func(int)) {
						a.send(t, x[:at])
						b.send(t, y)
						read(1 - first)
						a.send(t, x[at:])
						read(first)
					}); got != within {
						t.Fatalf("%q cut at %d, around %q:\n got %s\nwant %s", x, at, y, got, within)
					}
				}
			}
		}
	}
}

// Two clients send requests at the same time. The responses, the stored usages and the counts
// are the same as if the clients had sent one after the other.
func TestConcurrentClientsDoNotAffectEachOther(t *testing.T) {
	tokens, headers := newTokens(t, pairNames[0], pairNames[1])
	log := newMemoryLog()
	h, ln := serveInMemory(t, log, Options{Policy: auth.Policy{Tokens: tokens}})
	p := &pairOfClients{server: h, log: log, headers: headers}
	for i, name := range pairNames {
		conn := ln.dial()
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		p.clients[i] = &keepAliveClient{name, conn, bufio.NewReader(conn)}
	}
	p.interleave(t)
}

// A connection with an authenticated request is a client's, even if the request is rejected.
func TestAnAuthenticatedRequestMakesAClient(t *testing.T) {
	tokens, headers := newTokens(t, "ada")
	h, ln := serveInMemory(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens}})
	conn := ln.dial()
	defer conn.Close()
	n := keepAliveClient{"ada", conn, bufio.NewReader(conn)}
	n.send(t, post("not JSON", headers[0]))
	n.readResponse(t)
	h.conns.mu.Lock()
	defer h.conns.mu.Unlock()
	if h.conns.plain.clients.n != 1 || h.conns.plain.strangers.n != 0 {
		t.Errorf("%d clients, %d strangers, want 1 and 0:", h.conns.plain.clients.n, h.conns.plain.strangers.n)
	}
}

// A plain HTTP client of a TLS listener can send the rest of its request and read the
// response.
func TestPlainHTTPOnATLSListenerIsReadToItsEnd(t *testing.T) {
	_, ln := serveInMemory(t, newMemoryLog(), Options{Policy: auth.Policy{TLS: authtest.NewAuthority(t).Server(t, nil)}})
	conn := ln.dialDuplex()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	go func() { _, _ = io.WriteString(conn, post(`{"a":1}`)) }() // not all of it is read at once
	a, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || a.StatusCode != http.StatusBadRequest {
		t.Fatal(a, err)
	}
	if _, err := io.WriteString(conn, "more"); err != nil {
		t.Errorf("the server does not read further bytes: %v", err)
	}
}

// After a connection was cut off with 503, its request is neither authenticated nor stored.
func TestACutOffConnectionIsNotAuthenticated(t *testing.T) {
	tokens, headers := newTokens(t, "ada")
	log := newMemoryLog()
	h := newServer(t, log, Options{Policy: auth.Policy{Tokens: tokens}})
	s := &scriptedConn{in: bytes.NewReader([]byte(post("{}", headers[0])))}
	c := h.newConn(s)
	c.hold.Store(holdTaken)
	c.serve()
	if out := s.out.String(); !strings.HasPrefix(out, "HTTP/1.1 503 ") || c.isClient.Load() || len(log.usages) > 0 {
		t.Errorf("stored %v: %s", log.usages, out)
	}
}
