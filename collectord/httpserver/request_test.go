package httpserver

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

// reader is a server that returns what it understood.
type reader struct {
	*Server
	all     []understood
	refusal string // that of the framing, which nobody else has
}

func newReader(t testing.TB) *reader {
	r := &reader{Server: newServer(t, newMemoryLog(), Options{})}
	r.server.Handler = func(ctx *fasthttp.RequestCtx) {
		asked, p := r.readHeader(ctx)
		q := afterAnother(r.Server, asked)
		defer r.release(q)
		if p == nil {
			p = r.readBody(ctx, q)
		}
		r.refusal = connectionOf(ctx).badlyFramed()
		if p != nil {
			write(ctx, p)
			return
		}
		r.all = append(r.all, understood{
			string(ctx.Method()), string(ctx.Request.Header.RequestURI()),
			string(asked.contentType), string(asked.encoding), string(asked.key), string(q.body),
		})
	}
	r.server.ExpectHandler = func(*fasthttp.RequestCtx) int { return http.StatusContinue }
	return r
}

// read returns the requests the server accepts on one connection.
func (r *reader) read(text []byte) []understood {
	r.all, r.refusal = nil, ""
	in := &script{in: bytes.NewReader(text)}
	_ = r.server.ServeConn(&connection{Conn: in, raw: in, all: &r.open, door: r.Server})
	return r.all
}

// theirs returns the requests net/http reads from the same bytes, and for each of
// their headers whether one of its lines ends with LF alone.
func theirs(text []byte) (all []understood, bare []bool) {
	from := bytes.NewReader(text)
	in := bufio.NewReader(from)
	unread := func() []byte { return text[len(text)-from.Len()-in.Buffered():] }
	for {
		for { // empty lines before a request, as servers do
			line, _, _ := bytes.Cut(unread(), []byte("\n"))
			if len(bytes.TrimSuffix(line, []byte("\r"))) > 0 {
				break
			}
			if n, _ := in.Discard(len(line) + 1); n <= len(line) {
				return all, bare
			}
		}
		header := unread()
		req, err := http.ReadRequest(in)
		if err != nil {
			return all, bare
		}
		header = header[:len(header)-len(unread())]
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return all, bare
		}
		bare = append(bare, bytes.Count(header, []byte("\n")) > bytes.Count(header, []byte("\r\n")))
		all = append(all, understood{
			req.Method, req.RequestURI, req.Header.Get("Content-Type"), req.Header.Get("Content-Encoding"),
			string(unquote([]byte(req.Header.Get("Idempotency-Key")))), string(body),
		})
		if req.Close {
			return all, bare
		}
	}
}

func TestBothReadTwoPlainRequests(t *testing.T) {
	text := []byte(chunked(`{"a":1}`) + post("{}", "Idempotency-Key: k"))
	a := newReader(t).read(text)
	if b, _ := theirs(text); len(a) != 2 || len(b) != 2 || a[1].key != "k" {
		t.Errorf("ours %v, theirs %v", a, b)
	}
}

// FuzzRequest feeds a connection to the door and to net/http. As long as both
// accept what they read, they must agree on it: so must a proxy in front. A line that
// ends with LF alone is refused, wherever it is, and nothing else is in its name.
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
		post("GET / HTTP/1.1\n", "Content-Type: application/x-ndjson") + "\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + "GET / HTTP/1.1\nHost: localhost\r\n\r\n",
		chunked("GET / HTTP/1.1\nHost: localhost\r\n\r\n") + "GET / HTTP/1.1\nHost: localhost\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\n",
	} {
		f.Add([]byte(s))
	}
	server := newReader(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > (Options{}).withDefaults().MaxHeader {
			return
		}
		a := server.read(text)
		b, bare := theirs(text)
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("request %d of %q:\nours   %+v\ntheirs %+v", i, text, a[i], b[i])
			}
			if bare[i] {
				t.Fatalf("request %d of %q has a line without CR", i, text)
			}
		}
		if n := len(a); n < len(b) && server.refusal != "" && !bare[n] && b[n].body == "" {
			t.Fatalf("request %d of %q is refused: %s", n, text, server.refusal)
		}
	})
}
