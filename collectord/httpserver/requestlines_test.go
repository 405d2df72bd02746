package httpserver

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/testrun"
)

// serveInMemory starts a server on an in-memory listener.
func serveInMemory(t *testing.T, log Log, o Options) (*Server, *memoryListener) {
	t.Helper()
	h, ln := newServer(t, log, o), listenInMemory()
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	t.Cleanup(func() {
		if err := h.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		h.StopListening()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return h, ln
}

// readStatuses sends parts, each of which the server reads separately. It returns the
// statuses of up to n responses, and whether the connection was closed.
func readStatuses(t *testing.T, ln *memoryListener, n int, parts ...string) (all []int, closed bool) {
	t.Helper()
	c := ln.dial()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	go func() {
		for _, part := range parts {
			if _, err := io.WriteString(c, part); err != nil {
				return // the server closed the connection
			}
		}
	}()
	responses := bufio.NewReader(c)
	for len(all) < n {
		a, err := http.ReadResponse(responses, nil)
		if err != nil {
			return all, true
		}
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			t.Error(err)
		}
		all = append(all, a.StatusCode)
		if a.Close {
			return all, true
		}
	}
	return all, false
}

// Bytes of a body do not affect the next request, and each request line is checked, however
// the bytes are split into two reads.
func TestBodyBytesAreNotReadAsRequestLines(t *testing.T) {
	const pattern = "GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n"
	lines := "{\"a\":1}\n" + pattern + "{\"b\":\n2}\n{}\n"
	skippable := "\x50\x2a\x4d\x18" + fmt.Sprintf("%c\x00\x00\x00", len(pattern)) + pattern
	long := strings.Repeat(" ", maxDiscardedBody) + pattern
	request := func(method, path, body string, headers ...string) string {
		return strings.Replace(post(body, headers...), "POST /api/usages", method+" "+path, 1)
	}
	chunks := func(body string, headers ...string) string {
		return strings.TrimSuffix(postChunked(body, headers...), "0\r\n\r\n") + "0;HTTP/1.1\r\nX: HTTP/1.1\r\n\r\n"
	}
	tokens, headers := newTokens(t, "a")
	unknownToken := "Authorization: Bearer x"
	for name, c := range map[string]struct {
		request string
		status  int
		closes  bool
	}{
		"invalid line":              {post(lines, ndjsonHeader, headers[0]), 200, false},
		"invalid line, chunked":     {chunks(lines, ndjsonHeader, headers[0]), 200, false},
		"zstd":                      {post(skippable+compress(t, "zstd", "{}"), "Content-Encoding: zstd", headers[0]), 201, false},
		"zstd, chunked":             {chunks(skippable+compress(t, "zstd", "{}"), "Content-Encoding: zstd", headers[0]), 201, false},
		"not JSON":                  {post(pattern, headers[0]), 400, false},
		"no body":                   {"POST /api/usages HTTP/1.1\r\n" + headers[0] + "\r\nHost: localhost\r\nX: HTTP/1.1\r\n\r\n", 400, false},
		"expected":                  {post(lines, ndjsonHeader, headers[0], "Expect: 100-continue"), 100, false},
		"type":                      {post(pattern, "Content-Type: text/plain", headers[0]), 415, true},
		"no token":                  {post(pattern, unknownToken), 401, true},
		"no token, long":            {post(long, unknownToken), 401, true},
		"no token, chunked":         {chunks(pattern, unknownToken), 401, true},
		"PUT, no token":             {request("PUT", "/api/usages", pattern), 405, false},
		"PUT, no token, long":       {request("PUT", "/api/usages", long), 405, true},
		"PUT, unknown token":        {request("PUT", "/api/usages", pattern, unknownToken), 405, false},
		"other path":                {request("POST", "/x", pattern, headers[0]), 404, false},
		"other path, unknown token": {request("POST", "/x", pattern, unknownToken), 404, false},
		"other path, long":          {request("POST", "/x", long, headers[0]), 404, true},
		"other path, chunked":       {strings.Replace(chunks(pattern, headers[0]), "/api/usages", "/x", 1), 404, true},
		"health with a body":        {request("GET", "/healthz", pattern), 200, false},
		"health, long body":         {request("GET", "/healthz", long), 200, true},
		"health, HTTP/1.0":          {"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, false},
		"empty lines before":        {"\r\n\n\r\n" + post("{}", headers[0]), 201, false},
		"length after blanks":       {post("{}", headers[0], "X:"+strings.Repeat(" ", 100)), 201, false},
		"length, leading zeros":     {strings.Replace(post("{}", headers[0]), "Length: ", "Length: \t 00", 1), 201, false},
		"invalid line, and more":    {post(lines, ndjsonHeader, headers[0]) + "\r\n\n", 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newMemoryLog()
			_, ln := serveInMemory(t, log, Options{Policy: auth.Policy{Tokens: tokens}})
			good := post(`{"next":1}`, headers[0])
			for kind, next := range map[string]string{
				"good": good, "chunked": postChunked(`{"next":1}`, headers[0]),
				"bare":      strings.Replace(good, "\r\n", "\n", 1),
				"bare line": strings.Replace(good, "Host: localhost\r\n", "Host: localhost\n", 1),
				"bare end":  strings.Replace(good, "\r\n\r\n", "\r\n\n", 1) + "\r\n\r\n",
				"bare get":  pattern,
				"bare 1.0":  "GET /healthz HTTP/1.0\nX: y\r\n\r\n",
				"CR":        strings.Replace(good, "\r\n", "\r\r\n", 1),
				"CR before": "\r" + good,
			} {
				want := []int{c.status, http.StatusBadRequest}
				last := true
				if kind == "good" || kind == "chunked" {
					want[1], last = http.StatusCreated, false
				}
				if c.status == http.StatusContinue {
					want = append([]int{100, 200}, want[1:]...)
				}
				if c.closes {
					want, last = want[:1], true
				}
				text := c.request + next
				cuts := []int{len(c.request), len(text)}
				for at := len(kind) % testrun.OneIn(3); at < len(text); at += testrun.OneIn(3) {
					if near := strings.Index(c.request, "HTTP/1.1\n"); near >= 0 && at > near-3 && at < near+12 || at > len(c.request)-4 && at < len(c.request)+40 && at < len(text) {
						cuts = append(cuts, at)
					}
				}
				for _, at := range cuts {
					got, closed := readStatuses(t, ln, len(want), text[:at], text[at:])
					if fmt.Sprint(got) != fmt.Sprint(want) || closed != last {
						t.Errorf("%s next, cut at %d of %d: %v, closed %v; want %v, %v", kind, at, len(c.request), got, closed, want, last)
					}
				}
			}
		})
	}
}

// A request line without CR is rejected, however it is split and however many requests
// precede it.
func TestARequestLineWithoutCRIsRejectedAcrossReads(t *testing.T) {
	_, ln := serveInMemory(t, newMemoryLog(), Options{})
	good := post(`{"a":1}`)
	for _, size := range []int{1, 2, 3, 7, 11, 50, 1000} {
		for before := range 5 {
			text := strings.Repeat(good, before) + strings.Replace(good, "\r\n", "\n", 1)
			var parts []string
			for len(text) > 0 {
				n := min(size, len(text))
				parts, text = append(parts, text[:n]), text[n:]
			}
			got, closed := readStatuses(t, ln, before+1, parts...)
			if len(got) != before+1 || got[before] != http.StatusBadRequest || !closed || before > 0 && got[before-1] != http.StatusCreated {
				t.Errorf("after %d requests, in parts of %d: %v, closed %v", before, size, got, closed)
			}
		}
	}
}

// A proxy sends requests of many clients over one connection: the body of one client does
// not cause the rejection of another's request.
func TestABodyDoesNotCauseAnotherClientsRejection(t *testing.T) {
	for name, body := range map[string]string{
		"invalid line":   post("{\"a\":1}\nGET / HTTP/1.1\n{\"b\":2}\n", ndjsonHeader),
		"a PUT's":        strings.Replace(post("x HTTP/1.1\ny"), "POST", "PUT", 1),
		"another path's": strings.Replace(post("x HTTP/1.1\ny"), "/api", "/app", 1),
	} {
		log := newMemoryLog()
		_, addr := startServer(t, log, Options{})
		v := dialRaw(t, addr)
		for range 10 {
			v.send(body)
			v.readResponse()
			v.send(post(`{"mine":1}`))
			if status, text := v.readResponse(); status != http.StatusCreated {
				t.Fatalf("%s: %d %s", name, status, text)
			}
		}
	}
}
