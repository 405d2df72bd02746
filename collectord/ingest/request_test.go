package ingest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// script is a connection on which all has been sent already.
type script struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)         { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)        { return s.out.Write(p) }
func (s *script) Close() error                       { return nil }
func (s *script) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (s *script) SetDeadline(_ time.Time) error      { return nil }
func (s *script) SetReadDeadline(_ time.Time) error  { return nil }
func (s *script) SetWriteDeadline(_ time.Time) error { return nil }

// understood is what one side makes of a request.
type understood struct {
	method, target, contentType, encoding, key, body string
}

// ours returns the requests the door accepts on one connection.
func ours(text []byte) (all []understood) {
	h := NewHTTP(newMemoryLog(), HTTPOptions{})
	h.server.Handler = func(ctx *fasthttp.RequestCtx) {
		asked, p := h.readHeader(ctx)
		r := &request{header: asked}
		if p == nil {
			p = h.readBody(ctx, r)
		}
		if p != nil {
			write(ctx, p)
			return
		}
		all = append(all, understood{
			string(ctx.Method()), string(ctx.Request.Header.RequestURI()),
			string(asked.contentType), string(asked.encoding), string(asked.key), string(r.body),
		})
	}
	h.server.ExpectHandler = func(*fasthttp.RequestCtx) int { return http.StatusContinue }
	_ = h.server.ServeConn(&connection{Conn: &script{in: bytes.NewReader(text)}, all: &h.open, door: h})
	return all
}

// theirs returns the requests net/http reads from the same bytes.
func theirs(text []byte) (all []understood) {
	in := bufio.NewReader(bytes.NewReader(text))
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return all
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return all
		}
		all = append(all, understood{
			req.Method, req.RequestURI, req.Header.Get("Content-Type"), req.Header.Get("Content-Encoding"),
			string(unquote([]byte(req.Header.Get("Idempotency-Key")))), string(body),
		})
		if req.Close {
			return all
		}
	}
}

func TestBothReadTwoPlainRequests(t *testing.T) {
	text := []byte(chunked(`{"a":1}`) + post("{}", "Idempotency-Key: k"))
	if a, b := ours(text), theirs(text); len(a) != 2 || len(b) != 2 || a[1].key != "k" {
		t.Errorf("ours %v, theirs %v", a, b)
	}
}

// FuzzRequest feeds a connection to the door and to net/http. As long as both
// accept what they read, they must agree on it: so must a proxy in front.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		post(`{"a":1}`) + post(`{"a":2}`, "Idempotency-Key: \"k\"", "Content-Encoding: gzip", "Content-Type:text/plain "),
		chunked(`{"a":1,"b":"some more text"}`) + post("{}"),
		"GET http://y/api/usages?a=b HTTP/1.1\r\nHost: localhost\r\n\r\n" + post("{}"),
		"POST /api/usages HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}" + post("{}"),
		"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 02\r\nTransfer-Encoding: chunked\r\n\r\n{}",
		"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2;a=\"b\"\r\n{}\r\n00\r\nX: y\r\n\r\n" + post("{}"),
		"POST /api/usages HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}",
		"\r\n\r\nPOST * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nX:\r\n y\r\n\r\n{}",
		post("{}", "Expect: 100-continue", "Connection: close") + post("{}"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > (HTTPOptions{}).withDefaults().MaxHeader {
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
