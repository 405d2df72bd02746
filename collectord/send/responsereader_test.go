package send

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func newReader(from io.Reader) *responseReader {
	r := &responseReader{}
	r.reset(from)
	return r
}

// responseCases are responses of servers and proxies, and their content.
var responseCases = []struct {
	sent string
	want response
}{
	{"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"id\":\"0\"}\n", response{status: 201, body: []byte("{\"id\":\"0\"}\n")}},
	{"HTTP/1.1 200\r\ncontent-length:0\r\nIdempotency-Replayed: true\r\n\r\n", response{status: 200, replayed: true}},
	{"HTTP/1.1 200 \r\nCONTENT-LENGTH: \t2 \t\r\nx: \xe4\tb\r\n\r\nok", response{status: 200, body: []byte("ok")}},
	{"HTTP/1.1 503 x\r\nRetry-After: 7\r\nRetry-After: 5\r\nContent-Length: 0\r\nIdempotency-Replayed:\r\n\r\n", response{status: 503, retryAfter: 7 * time.Second}},
	{"HTTP/1.1 204 No Content\r\n\r\n", response{status: 204}},
	{"HTTP/1.1 304 x\r\nContent-Length: 0\r\n\r\n", response{status: 304}},
	{"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", response{status: 304, closes: true}},

	{"HTTP/1.1 413 x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", response{status: 413, body: []byte("{}"), closes: true}},
	{"HTTP/1.1 201 x\r\nConnection: foo ,\tClose , bar\r\nContent-Length: 0\r\n\r\n", response{status: 201, closes: true}},
	{"HTTP/1.1 201 x\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", response{status: 201, closes: true}},
	{"HTTP/1.1 201 x\r\nConnection: closed\r\nContent-Length: 0\r\n\r\n", response{status: 201}},
	{"HTTP/1.0 201 x\r\nContent-Length: 0\r\n\r\n", response{status: 201, closes: true}},
	{"HTTP/1.0 201 x\r\nConnection: Keep-Alive, foo\r\nContent-Length: 0\r\n\r\n", response{status: 201}},
	{"HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n", response{status: 101, closes: true}},
	{"HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", response{status: 204, closes: true}},

	{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nRetry-After: 9\r\nConnection: close\r\n\r\nHTTP/1.1 201 x\r\nContent-Length: 2\r\n\r\n{}", response{status: 201, body: []byte("{}")}},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5  \r\nhello\r\n00A;x=\"y;\"\r\n, world...\r\n0\r\n\r\n", response{status: 200, body: []byte("hello, world...")}},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\r\r\n0;x\r\nRetry-After: 5\r\nConnection: close\r\n\r\n", response{status: 200, body: []byte("\r")}},
}

// closeDelimited are responses that only the end of the connection ends.
var closeDelimited = []string{
	"HTTP/1.0 200 OK\r\n\r\n{}",
	"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{}",
}

func equalResponses(a, b response) bool {
	return a.status == b.status && bytes.Equal(a.body, b.body) && a.replayed == b.replayed && a.retryAfter == b.retryAfter && a.closes == b.closes
}

func TestResponsesAreReadRegardlessOfHowTheyAreSplit(t *testing.T) {
	splitters := map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "bytes": iotest.OneByteReader, "with the end": iotest.DataErrReader,
	}
	for how, splitters := range splitters {
		for _, a := range responseCases {
			got, err := newReader(splitters(strings.NewReader(a.sent))).read()
			if err != nil || !equalResponses(got, a.want) {
				t.Errorf("%s: %q is %+v, %v", how, a.sent, got, err)
			}
		}
		for _, text := range closeDelimited {
			got, err := newReader(splitters(strings.NewReader(text))).read()
			if err != nil || !equalResponses(got, response{status: 200, body: []byte("{}"), closes: true}) {
				t.Errorf("%s: %q is %+v, %v", how, text, got, err)
			}
			if _, err := newReader(io.MultiReader(strings.NewReader(text), iotest.ErrReader(net.ErrClosed))).read(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %q, then a read error: got %v, want the error", how, text, err)
			}
		}
	}
}

func TestATruncatedResponseIsAnError(t *testing.T) {
	for _, a := range responseCases {
		for n := range a.sent {
			got, err := newReader(strings.NewReader(a.sent[:n])).read()
			if reason := reasonOf(err); err == nil || reason != "closed without an answer" {
				t.Fatalf("%q is %+v, %v", a.sent[:n], got, err)
			}
		}
	}
}

// One reader reads all responses, so that state left by one would change the next.
func TestResponsesAreReadOneAfterAnother(t *testing.T) {
	r := newReader(http.NoBody)
	for range 2 {
		for _, a := range responseCases {
			ours, theirs := net.Pipe()
			r.reset(ours)
			for range 2 {
				go io.WriteString(theirs, a.sent)
				if got, err := r.read(); err != nil || !equalResponses(got, a.want) {
					t.Fatalf("%q is %+v, %v", a.sent, got, err)
				}
			}
			ours.Close()
			theirs.Close()
		}
	}
}

func TestInvalidResponsesAreRejected(t *testing.T) {
	const ok = "HTTP/1.1 201 x\r\n"
	const chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
	for _, text := range []string{
		"\r\n" + ok + "Content-Length: 0\r\n\r\n", "SSH-2.0-x\r\n", "ICY 200 OK\r\n\r\n", "http/1.1 201 x\r\n\r\n",
		"HTTP/1.2 201 x\r\n\r\n", "HTTP/2.0 201 x\r\n\r\n", "HTTP/1.1  201 x\r\n\r\n", "HTTP/1.1\t201 x\r\n\r\n", "HTTP/1.1 20 x\r\n\r\n", "HTTP/1.1 2001 x\r\n\r\n",
		"HTTP/1.1 +20 x\r\n\r\n", "HTTP/1.1 099 x\r\n\r\n", "HTTP/1.1 20x\r\n\r\n", "HTTP/1.1 201\tx\r\n\r\n", "HTTP/1.1 201 \x1b[2J\r\n\r\n",
		"HTTP/1.1 201 x\nContent-Length: 0\n\n", "HTTP/1.1 201 x\rContent-Length: 0\r\r\n",
		ok + "Content-Length: 0\n\r\n", ok + "Content-Length: 0\r\n\n", ok + "a\r\n\r\n", ok + ": b\r\n\r\n", ok + "a : b\r\n\r\n", ok + " a: b\r\n\r\n", ok + "a: b\r\n c\r\n\r\n",
		ok + "a b: c\r\n\r\n", ok + "\xe4: b\r\n\r\n", ok + "a: \x00\r\n\r\n", ok + "a: \x7f\r\n\r\n", ok + "a: b\rc\r\n\r\n",
		ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", ok + "Content-Length: 1, 1\r\n\r\nx", ok + "Content-Length:\r\n\r\n", ok + "Content-Length: -1\r\n\r\n", ok + "Content-Length: +1\r\n\r\nx",
		ok + "Content-Length: 0x1\r\n\r\nx", ok + "Content-Length: 1_0\r\n\r\n0123456789", ok + "Content-Length: 18446744073709551617\r\n\r\nx", ok + "Content-Length: 1048577\r\n\r\n",
		ok + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		ok + "Transfer-Encoding: identity\r\n\r\n", ok + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", ok + "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
		"HTTP/1.0 201 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		chunked + "\r\n", chunked + "x\r\n", chunked + "-1\r\n", chunked + "+1\r\nx\r\n0\r\n\r\n", chunked + "0x1\r\nx\r\n0\r\n\r\n", chunked + " 1\r\nx\r\n0\r\n\r\n", chunked + "1 1\r\nx\r\n0\r\n\r\n", chunked + ";x\r\n", chunked + "1 ;x\r\nx\r\n0\r\n\r\n",
		chunked + "1\nx\r\n0\r\n\r\n", chunked + "1;\x00\r\nx\r\n0\r\n\r\n", chunked + "1\r\nxy\r\n0\r\n\r\n", chunked + "1\r\nx\n0\r\n\r\n", chunked + "2\r\nx\r\n0\r\n\r\n",
		chunked + "ffffffff\r\n", chunked + "10000000000000001\r\nx\r\n0\r\n\r\n", chunked + "fffff\r\n" + strings.Repeat("x", 0xfffff) + "\r\n1\r\n",
		chunked + "0\r\na\r\n\r\n", chunked + "0\r\n a: b\r\n\r\n", chunked + "0\r\nTransfer-Encoding: gzip\r\n\r\n", chunked + "0\r\n\n",
		"HTTP/1.1 100 x\r\na\r\n\r\n" + ok + "\r\n", "HTTP/1.1 100 x\r\n\r\n\r\n" + ok + "\r\n",
	} {
		if got, err := newReader(strings.NewReader(text)).read(); !errors.Is(err, errUnreadable) || got.status != 0 {
			t.Errorf("%.80q is %+v, %v", text, got.status, err)
		}
	}
}

// endlessReader repeats its text without end.
type endlessReader struct {
	text string
	at   int
	read int
}

func (f *endlessReader) Read(b []byte) (int, error) {
	n := copy(b, f.text[f.at:])
	f.at = (f.at + n) % len(f.text)
	f.read += n
	return n, nil
}

func TestAnEndlessResponseIsRejected(t *testing.T) {
	const ok = "HTTP/1.1 201 x\r\n"
	const chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
	for name, c := range map[string]struct {
		first, then string
		maxRead     int
	}{
		"line":         {"", "x", 2 * maxLineBytes},
		"header line":  {ok + "a:", "x", 2 * maxLineBytes},
		"header":       {ok, "a: b\r\n", 2 * maxResponseBytes},
		"interim":      {"", "HTTP/1.1 100 Continue\r\n\r\n", 2 * maxResponseBytes},
		"body":         {ok + "\r\n", "x", 2 * maxResponseBytes},
		"large body":   {ok + "Content-Length: 2147483647\r\n\r\n", "x", 2 * maxLineBytes},
		"chunks":       {chunked, "1\r\nx\r\n", 2 * maxResponseBytes},
		"large chunks": {chunked, "1;" + strings.Repeat("x", maxLineBytes/2) + "\r\nx\r\n", 2 * maxResponseBytes},
		"chunk":        {chunked + "7fffffff\r\n", "x", 2 * maxLineBytes},
		"trailer":      {chunked + "0\r\n", "a: b\r\n", 2 * maxResponseBytes},
	} {
		f := &endlessReader{text: c.then}
		r := newReader(io.MultiReader(strings.NewReader(c.first), f))
		if _, err := r.read(); !errors.Is(err, errUnreadable) || f.read > c.maxRead || cap(r.body) > 2*maxResponseBytes {
			t.Errorf("%s: %v after %d bytes, with %d bytes of memory", name, err, f.read, cap(r.body))
		}
	}
}

func TestTheSizeLimitHoldsForEachResponse(t *testing.T) {
	r := newReader(&endlessReader{text: "HTTP/1.1 201 x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000)})
	for range 3 * maxResponseBytes / 100_000 {
		if a, err := r.read(); err != nil || len(a.body) != 100_000 {
			t.Fatal(len(a.body), err)
		}
	}
}

func TestReadingAResponseAllocatesNothing(t *testing.T) {
	for _, text := range []string{responseCases[0].sent, "HTTP/1.1 503 x\r\nServer: x\r\nDate: Tue, 24 Nov 2026 12:00:09 GMT\r\nConnection: keep-alive\r\nRetry-After: 2\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"} {
		from := &endlessReader{text: text}
		r := newReader(from)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := r.read(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%q: %v allocations, want 0", text, n)
		}
	}
}

// The server sends two responses to the first request. The second one must not acknowledge
// a usage that was not stored.
func TestAnUnrequestedResponseAcknowledgesNothing(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				continue // a connection without a request
			}
			const created = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
			io.WriteString(c, []string{created + created, "HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n"}[min(n, 1)])
		}
	}()
	s := mustRun(t, Options{Target: "http://" + ln.Addr().String(), Count: 2})
	if s.UsagesAcknowledged != 1 || s.UsagesRejected != 1 {
		t.Errorf("summary %+v", s)
	}
}

func TestResponsesAfterContinueAndOfHTTP10AreAccepted(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			for _, text := range []string{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n{\"accepted\":1}"} {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					io.WriteString(c, text)
				}
			}
			c.Close()
		}
	}()
	s := mustRun(t, Options{Target: "http://" + ln.Addr().String(), Count: 10})
	if s.UsagesAcknowledged != 10 || s.Statuses["201"] != 5 || s.Statuses["200"] != 5 || len(s.Errors) != 0 {
		t.Errorf("summary %+v", s)
	}
}
