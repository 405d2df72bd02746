package httpserver

import (
	"net/http"
	"strings"
	"testing"
)

// A proxy in front of the server could see these requests end elsewhere. The bytes that
// follow must not be served as a request.
func TestAmbiguousRequestsAreRejectedAndClosed(t *testing.T) {
	const next = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	head := func(lines ...string) string {
		return "POST /api/usages HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	for name, request := range map[string]string{
		"two lengths":                head("Content-Length: 2", "Content-Length: 3") + "{}",
		"two equal lengths":          head("Content-Length: 2", "Content-Length: 2") + "{}",
		"list of lengths":            head("Content-Length: 2, 2") + "{}",
		"signed length":              head("Content-Length: +2") + "{}",
		"negative length":            head("Content-Length: -2") + "{}",
		"hexadecimal length":         head("Content-Length: 0x2") + "{}",
		"fractional length":          head("Content-Length: 2.0") + "{}",
		"no length":                  head("Content-Length:") + "{}",
		"large length":               head("Content-Length: 99999999999999999999") + "{}",
		"length and chunks":          head("Content-Length: 2", "Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\n\r\n",
		"chunks and length":          head("Transfer-Encoding: chunked", "Content-Length: 2") + "2\r\n{}\r\n0\r\n\r\n",
		"chunks in HTTP/1.0":         strings.Replace(head("Transfer-Encoding: chunked"), "HTTP/1.1", "HTTP/1.0", 1) + "2\r\n{}\r\n0\r\n\r\n",
		"chunks twice":               head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\n\r\n",
		"identity":                   head("Transfer-Encoding: identity", "Content-Length: 2") + "{}",
		"identity alone":             head("Transfer-Encoding: identity"),
		"list of codings":            head("Transfer-Encoding: gzip, chunked") + "2\r\n{}\r\n0\r\n\r\n",
		"chunked and more":           head("Transfer-Encoding: chunked, identity") + "2\r\n{}\r\n0\r\n\r\n",
		"xchunked":                   head("Transfer-Encoding: xchunked", "Content-Length: 2") + "{}",
		"quoted chunked":             head("Transfer-Encoding: \"chunked\"") + "2\r\n{}\r\n0\r\n\r\n",
		"vertical tab before":        head("Transfer-Encoding: \x0bchunked") + "2\r\n{}\r\n0\r\n\r\n",
		"empty coding":               head("Transfer-Encoding:", "Content-Length: 2") + "{}",
		"space before the colon":     head("Transfer-Encoding : chunked", "Content-Length: 2") + "{}",
		"tab before the colon":       head("Content-Length\t: 2") + "{}",
		"space in the name":          head("Content Length: 2") + "{}",
		"space before the name":      head(" Transfer-Encoding: chunked", "Content-Length: 2") + "{}",
		"continued line":             head("Transfer-Encoding:", " chunked") + "2\r\n{}\r\n0\r\n\r\n",
		"continued other line":       head("X: a", "\tb", "Content-Length: 2") + "{}",
		"bare LF in the header":      "POST /api/usages HTTP/1.1\r\nHost: localhost\nContent-Length: 2\r\n\r\n{}",
		"bare LF ends the header":    "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\n{}",
		"bare LF after the request":  "POST /api/usages HTTP/1.1\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
		"bare CR":                    head("X: a\rContent-Length: 2") + "{}",
		"NUL":                        head("X: a\x00", "Content-Length: 2") + "{}",
		"no colon":                   head("Content-Length 2") + "{}",
		"no host":                    "POST /api/usages HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
		"two hosts":                  head("Host: y", "Content-Length: 2") + "{}",
		"bare LF after a chunk size": head("Transfer-Encoding: chunked") + "2\n{}\r\n0\r\n\r\n",
		"bare LF in an extension":    head("Transfer-Encoding: chunked") + "2;x\n{}\r\n0\r\n\r\n",
		"bare LF after a chunk":      head("Transfer-Encoding: chunked") + "2\r\n{}\n0\r\n\r\n",
		"chunk too long":             head("Transfer-Encoding: chunked") + "2\r\n{} \r\n0\r\n\r\n",
		"signed chunk size":          head("Transfer-Encoding: chunked") + "+2\r\n{}\r\n0\r\n\r\n",
		"chunk size with 0x":         head("Transfer-Encoding: chunked") + "0x2\r\n{}\r\n0\r\n\r\n",
		"huge chunk size":            head("Transfer-Encoding: chunked") + "10000000000000002\r\n{}\r\n0\r\n\r\n",
		"empty chunk size":           head("Transfer-Encoding: chunked") + "\r\n{}\r\n0\r\n\r\n",
		"length in the trailer":      head("Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newMemoryLog()
			_, addr := startServer(t, log, Options{Limits: withoutDeadlines(Limits{})})
			responses, bodies := sendRaw(t, addr, request+next, 2)
			if len(responses) != 1 || responses[0].StatusCode != http.StatusBadRequest || !responses[0].Close {
				for i, a := range responses {
					t.Errorf("%s, close %v: %s", a.Status, a.Close, bodies[i])
				}
			}
			if len(log.usages) > 0 {
				t.Errorf("stored %v", log.usages)
			}
		})
	}
}

// Unusual but unambiguous requests are served, and so is the next one.
func TestUnusualButUnambiguousRequestsAreServed(t *testing.T) {
	t.Parallel()
	const next = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for name, request := range map[string]string{
		"empty line before":   "\r\n" + post("{}"),
		"blanks in a value":   post("{}", "X:   \t a \t"),
		"no blank":            "POST /api/usages HTTP/1.1\r\nhost:localhost\r\ncontent-length:2\r\n\r\n{}",
		"leading zeros":       "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0002\r\n\r\n{}",
		"Chunked":             "POST /api/usages HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding: Chunked\r\n\r\n02;a=b\r\n{}\r\n0\r\n\r\n",
		"trailer":             "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n",
		"query":               strings.Replace(post("{}"), "/api/usages", "/api/usages?a=b", 1),
		"whole URL":           strings.Replace(post("{}"), "/api/usages", "http://localhost/api/usages", 1),
		"version in the body": post(`{"a":"GET / HTTP/1.1"` + "\n}"),
	} {
		t.Run(name, func(t *testing.T) {
			log := newMemoryLog()
			_, addr := startServer(t, log, Options{})
			responses, bodies := sendRaw(t, addr, request+next, 2)
			if len(responses) != 2 || responses[0].StatusCode != http.StatusCreated || responses[1].StatusCode != http.StatusOK || len(log.usages) != 1 {
				t.Errorf("%d responses, want 2: %v", len(responses), bodies)
			}
		})
	}
}
