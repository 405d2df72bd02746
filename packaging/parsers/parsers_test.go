package parsers

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/valyala/fasthttp"

	"collectord/collectord/http1"
)

const maxHeader = 8 << 10

// understood is what one side makes of a request.
type understood struct {
	method, target, host, contentType, key, body string
}

func ours(text []byte) (all []understood) {
	c := http1.New(maxHeader)
	var u understood
	for at := 0; ; {
		e, piece, n := c.Next(text[at:])
		at += n
		switch e {
		case http1.More, http1.Bad:
			return all
		case http1.Header:
			q := c.Request()
			u = understood{method: string(q.Method), target: string(q.Target), host: string(q.Host)}
			for fields := q.Fields(); ; {
				name, value, ok := fields.Next()
				if !ok {
					break
				}
				switch {
				case http1.EqualFold(name, "content-type"):
					u.contentType = string(value)
				case http1.EqualFold(name, "x-key"):
					u.key = string(value)
				}
			}
		case http1.Body:
			u.body += string(piece)
		case http1.End:
			all = append(all, u)
			c.AppendResponse(nil, &http1.Response{Status: 200})
		}
	}
}

func theirs(text []byte) (all []understood) {
	in := bufio.NewReaderSize(bytes.NewReader(text), maxHeader)
	for {
		var q fasthttp.Request
		if err := q.ReadLimitBody(in, 1<<20); err != nil {
			return all
		}
		h := &q.Header
		u := understood{string(h.Method()), string(h.RequestURI()), string(h.Host()), string(h.ContentType()), string(h.Peek("X-Key")), string(q.Body())}
		all = append(all, u)
		if q.ConnectionClose() {
			return all
		}
	}
}

var seeds = []string{ //nolint:gochecknoglobals // a constant list
	"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /x HTTP/1.1\r\nHost: b\r\nX-Key: k\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
	"\r\nPOST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\n{}\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}POST / HTTP/1.0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 02\r\nTransfer-Encoding: chunked\r\n\r\n{}",
	"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n y\r\n\r\n", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
}

func TestBothReadPlainRequests(t *testing.T) {
	for i, text := range seeds[:3] {
		a, b := ours([]byte(text)), theirs([]byte(text))
		if len(a) == 0 || len(a) != len(b) {
			t.Errorf("%d: ours %+v, theirs %+v", i, a, b)
		}
	}
}

// FuzzRequests gives a connection's bytes to both. As long as both accept what they read,
// they must agree on it.
func FuzzRequests(f *testing.F) {
	for _, text := range seeds {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > maxHeader {
			return
		}
		a, b := ours(text), theirs(text)
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("request %d of %q:\nours   %+v\ntheirs %+v", i, text, a[i], b[i])
			}
		}
	})
}
