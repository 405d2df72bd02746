package httpserver

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"collectord/collectord/auth"
	"collectord/wal"
)

// emptyPosts returns requests without any usage, in all forms.
func emptyPosts(t *testing.T) map[string]string {
	const head = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\n"
	return map[string]string{
		"no body":            head + "\r\n",
		"no body, JSON":      head + "Content-Type: application/json\r\n\r\n",
		"no body, NDJSON":    head + ndjsonHeader + "\r\n\r\n",
		"no body, key":       head + "Idempotency-Key: k\r\n\r\n",
		"no body, ids":       head + "Prefer: return=representation\r\n\r\n",
		"no body, gzip":      head + "Content-Encoding: gzip\r\n\r\n",
		"no body, zstd":      head + "Content-Encoding: zstd\r\n\r\n",
		"no body, HTTP/1.0":  "POST /api/usages HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"no bytes":           post(""),
		"no bytes, gzip":     post("", "Content-Encoding: gzip"),
		"no bytes, zstd":     post("", "Content-Encoding: zstd"),
		"no bytes, NDJSON":   post("", ndjsonHeader),
		"no chunk":           head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"no chunk, gzip":     head + "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n0\r\n\r\n",
		"no chunk, trailer":  head + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
		"nothing, gzip":      post(compress(t, "gzip", ""), "Content-Encoding: gzip"),
		"nothing, zstd":      post(compress(t, "zstd", ""), "Content-Encoding: zstd"),
		"nothing, gzip, key": post(compress(t, "gzip", ""), "Content-Encoding: gzip", "Idempotency-Key: l"),
		"blanks":             post(" \r\n"),
		"empty array":        post("[ ]"),
		"blank lines":        post("\n\r\n", ndjsonHeader),
	}
}

// A request without a usage stores nothing, in particular no usage of an earlier request on
// the same or another connection.
func TestAPostWithoutABodyStoresNothing(t *testing.T) {
	tokens, headers := newTokens(t, "a", "b")
	log := newMemoryLog()
	_, addr := startServer(t, log, Options{Policy: auth.Policy{Tokens: tokens}})
	as := func(client int, request string) string {
		return strings.Replace(request, "\r\n", "\r\n"+headers[client]+"\r\n", 1)
	}
	a, b := dialRaw(t, addr), dialRaw(t, addr)
	var sent []string
	for name, empty := range emptyPosts(t) {
		for round := range 3 {
			for _, v := range []*rawClient{a, b} { // client b also uses a's connection
				sent = append(sent, fmt.Sprintf(`{"real":%d}`, len(sent)))
				a.send(as(0, post(sent[len(sent)-1])))
				if status, body := a.readResponse(); status != http.StatusCreated {
					t.Fatal(status, body)
				}
				v.send(as(1, empty))
				if status, body := v.readResponse(); status != http.StatusBadRequest || !strings.Contains(body, `"code":"empty"`) {
					t.Errorf("%s, round %d: %d %s", name, round, status, body)
				}
			}
		}
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if !slices.Equal(log.usages, sent) {
		t.Errorf("%d usages were sent, %d are stored", len(sent), len(log.usages))
	}
	for i, client := range log.clients {
		if client != "a" {
			t.Fatalf("%s is stored for %s", log.usages[i], client)
		}
	}
}

// outcome is everything that a request can cause.
type outcome struct {
	response string
	usages   []string
	clients  []string
	ids      []wal.ID
	rejected map[string]int
}

var varyingHeaders = regexp.MustCompile(`(?m)^(Date|Retry-After): .*\r$`)

// For each pair of requests, the second one has the same outcome as on a new server:
// response, stored usages, their clients and ids.
func TestARequestDoesNotDependOnTheOneBefore(t *testing.T) {
	many := strings.Repeat(`{"n":[1,2,3]}`+"\n", 300)
	shapes := map[string]string{
		"one":             post(`{"one":1}`),
		"one, breaks":     post("{\"one\":\r\n1}"),
		"one, chunked":    postChunked(`{"one":"chunked"}`),
		"array":           post(`[{"a":1},{"b":2}]`),
		"array, ids":      post(`[{"a":1},3,{"b":2}]`, "Prefer: return=representation"),
		"lines":           post(many, ndjsonHeader),
		"lines, ids":      postChunked(many, ndjsonHeader, "Prefer: return=representation"),
		"lines, invalid":  post("{\"a\":1}\n{\"a\":1,\"a\":2}\n[]\n", ndjsonHeader),
		"lines, strict":   post("{\"a\":1}\n{\"a\":\n", ndjsonHeader, "Prefer: handling=strict"),
		"gzip":            post(compress(t, "gzip", many), ndjsonHeader, "Content-Encoding: gzip"),
		"zstd":            post(compress(t, "zstd", `{"z":1}`), "Content-Encoding: zstd"),
		"zstd, damaged":   post("\x28\xb5\x2f\xfd{}", "Content-Encoding: zstd"),
		"key":             post(`{"k":1}`, "Idempotency-Key: k"),
		"key, array":      post(`[{"k":1},{}]`, "Idempotency-Key: \"k\"", "Prefer: return=representation"),
		"broken":          post(`{"one":`),
		"too large":       post(strings.Repeat(" ", 70<<10)),
		"large":           post(strings.Repeat(" ", 60<<10) + "{}"),
		"type":            post(`{}`, "Content-Type: text/plain"),
		"other path":      "POST /other HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
		"health":          "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"health, close":   "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"expect":          post(`{"e":1}`, "Expect: 100-continue"),
		"expect, refused": post(`{"e":1}`, "Expect: 100-continue", "Content-Type: text/plain"),
		"not HTTP":        "hello\r\n\r\n",
	}
	for name, empty := range emptyPosts(t) {
		shapes["empty, "+name] = empty
	}
	options := Options{MaxBody: 64 << 10}
	exchange := func(h *Server, client, text string) outcome {
		log := newMemoryLog()
		h.log = log
		h.window = newWindow(h.opts.IdempotencyKeys, h.opts.IdempotencyWindow)
		written := serveScript(h, client, text)
		return outcome{varyingHeaders.ReplaceAllString(written, ""), log.usages, log.clients, log.ids, log.rejected}
	}
	want := map[string]outcome{}
	for name, text := range shapes {
		cold := newServer(t, newMemoryLog(), options)
		cold.requests = sync.Pool{New: func() any {
			r := &request{}
			r.records = func(yield func(*wal.Record) bool) { cold.eachRecord(r, yield) }
			return r
		}}
		want[name] = exchange(cold, "b", text)
	}
	h := newServer(t, newMemoryLog(), options)
	for before, first := range shapes {
		for name, second := range shapes {
			exchange(h, "a", first)
			if got := exchange(h, "b", second); fmt.Sprint(got) != fmt.Sprint(want[name]) {
				t.Fatalf("%s after %s:\n%+v\nwant\n%+v", name, before, got, want[name])
			}
		}
	}
	for n, b := range map[string][2]int{"in flight": {h.inFlight.free, h.opts.MaxInFlight}, "small": {h.small.free, smallBodiesBytes}, "storing": {h.storing.free, h.opts.maxStoringBytes()}} {
		if b[0] != b[1] {
			t.Errorf("%s: %d of %d bytes are free", n, b[0], b[1])
		}
	}
}
