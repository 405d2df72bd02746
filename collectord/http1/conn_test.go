package http1

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// parsed is the result of parsing a connection's bytes.
type parsed struct {
	requests []string
	fault    Fault
	last     bool
}

// parseAll passes text to a new connection in parts, and responds to each complete request.
func parseAll(t testing.TB, max int, parts ...string) (p parsed) {
	t.Helper()
	c := New(max)
	var rest []byte
	var request, body strings.Builder
	for _, part := range parts {
		rest = append(rest, part...)
		for more := true; more; {
			e, piece, n := c.Next(rest)
			if n < 0 || n > len(rest) {
				t.Fatalf("Next consumed %d of %d bytes", n, len(rest))
			}
			switch e {
			case More:
				more = false
			case Header:
				q := c.Request()
				request.Reset()
				body.Reset()
				fmt.Fprintf(&request, "%s %s 1.%d host %q length %d expects %t", q.Method, q.Target, q.minor, q.Host, q.Length, q.ExpectsContinue)
				for lines := q.Fields(); ; {
					name, value, ok := lines.Next()
					if !ok {
						break
					}
					fmt.Fprintf(&request, " %s=%q", name, value)
				}
			case Body:
				body.Write(piece)
			case End:
				p.requests = append(p.requests, request.String()+": "+body.String())
				if out := c.AppendResponse(nil, &Response{Status: 200}); !strings.HasSuffix(string(out), "\r\n\r\n") {
					t.Fatalf("response %q does not end with an empty line", out)
				}
				p.last = c.Last()
			case Bad:
				p.fault, p.last = c.Fault(), c.Last()
				return p
			}
			rest = append([]byte(nil), rest[n:]...) // a copy, so that a reference to consumed bytes is noticed
		}
	}
	return p
}

const hostAndEnd = "Host: a\r\n\r\n"

func TestValidRequests(t *testing.T) {
	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                                              `GET / 1.1 host "a" length 0 expects false Host="a": `,
		"\r\n\n\r\nGET /x?y HTTP/1.1\r\nhost:\ta:80 \t\r\n\r\n":                                          `GET /x?y 1.1 host "a:80" length 0 expects false host="a:80": `,
		"POST http://a/x HTTP/1.1\r\nHost:\r\nContent-Length: 002\r\n\r\n{}":                             `POST http://a/x 1.1 host "" length 2 expects false Host="" Content-Length="002": {}`,
		"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n":                                                   `OPTIONS * 1.1 host "[::1]:80" length 0 expects false Host="[::1]:80": `,
		"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n":                                                       `CONNECT a:80 1.1 host "a" length 0 expects false Host="a": `,
		"GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n":                                            `GET / 1.0 host "" length 0 expects false Connection="x, Keep-Alive": `,
		"P / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\nHost: a\r\n\r\nx":                  `P / 1.1 host "a" length 1 expects true Expect="100-Continue" Content-Length="1" Host="a": x`,
		"P / HTTP/1.1\r\nExpect: 100-continue\r\nHost: a\r\n\r\n":                                        `P / 1.1 host "a" length 0 expects false Expect="100-continue" Host="a": `,
		"P / HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx":              `P / 1.0 host "" length 1 expects false Expect="x" Content-Length="1" Connection="keep-alive": x`,
		"P / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n" + hostAndEnd + "0\r\n\r\n":                      `P / 1.1 host "a" length -1 expects false Transfer-Encoding="Chunked" Host="a": `,
		"P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + hostAndEnd + "2\r\n{}\r\n000\r\nX: y\r\n\r\n": `P / 1.1 host "a" length -1 expects false Transfer-Encoding="chunked" Host="a": {}`,
		"P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + hostAndEnd +
			"1 ;a/=\r\n{\r\n1;a=b; c = \"d\\\"; \"\r\n \r\nA  \r\n0123456789\r\n0;x\r\n\r\n": `P / 1.1 host "a" length -1 expects false Transfer-Encoding="chunked" Host="a": { 0123456789`,
		"P / HTTP/1.1\r\nX: \xe4\t\"\r\nY:\r\n" + hostAndEnd:  `P / 1.1 host "a" length 0 expects false X="\xe4\t\"" Y="" Host="a": `,
		"GET / HTTP/1.0\r\nConnection: keep-alive, x\r\n\r\n": `GET / 1.0 host "" length 0 expects false Connection="keep-alive, x": `,
		"P / HTTP/1.1\r\nAccept: 100\r\n" + hostAndEnd:        `P / 1.1 host "a" length 0 expects false Accept="100" Host="a": `,
	} {
		got := parseAll(t, 8<<10, text+text)
		if len(got.requests) != 2 || got.requests[0] != want || got.requests[1] != want || got.last {
			t.Errorf("%q:\n got %q %+v\nwant %q, twice", text, got.requests, got.fault, want)
		}
	}
}

// After a request that asks for the end of the connection, no further request is read.
func TestRequestsThatEndTheConnection(t *testing.T) {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nConnection: x ,\tClose\r\n" + hostAndEnd,
		"GET / HTTP/1.1\r\nConnection: x\r\nConnection: close\r\n" + hostAndEnd,
		"GET / HTTP/1.1\r\nConnection: close, x\r\n" + hostAndEnd,
		"GET / HTTP/1.0\r\n" + hostAndEnd,
		"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n" + hostAndEnd,
	} {
		if got := parseAll(t, 8<<10, text+text); len(got.requests) != 1 || !got.last || got.fault != (Fault{}) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func badRequests() map[string]Kind {
	const ok = "P / HTTP/1.1\r\nHost: a\r\n"
	bad := map[string]Kind{
		"GET / HTTP/2.0\r\n": BadVersion, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": BadVersion, "GET / HTTP/1.2\r\n": BadVersion, "GET / HTTP/0.9\r\n": BadVersion,
		ok + "Expect: 200-ok\r\n": Expectation, ok + "X: " + strings.Repeat("x", 8<<10): TooLarge,
		strings.Repeat("x", 9<<10): TooLarge,
	}
	for _, text := range []string{
		"hello\r\n", "GET /\r\n", "GET  / HTTP/1.1\r\n", "GET / HTTP/1.1 \r\n", "GET /  HTTP/1.1\r\n", "GET / http/1.1\r\n", "GET / HTTP/1.10\r\n", "GET / HTTP/11\r\n", "GET  HTTP/1.1\r\n", "GET:/ HTTP/1.1\r\n", " / HTTP/1.1\r\n", "GET / HTTP/x.1\r\n", "GET / HTTP/1,1\r\n", "GET / HTTP/1.x\r\n",
		" GET / HTTP/1.1\r\n", "\rGET / HTTP/1.1\r\n", "\r\r\n", "GET / HTTP/1.1\n", "GET / HTTP/1.1\r\r\n", "G\x00T / HTTP/1.1\r\n", "GET /\x7f HTTP/1.1\r\n", "GET /ä HTTP/1.1\r\n",
		"GET x HTTP/1.1\r\n", "GET * HTTP/1.1\r\n", "GET http:// HTTP/1.1\r\n", "GET http:///x HTTP/1.1\r\n", "GET ftp://a/ HTTP/1.1\r\n", "GET ftp://host/ HTTP/1.1\r\n", "GET http://u@a/ HTTP/1.1\r\n", "CONNECT a@b:80 HTTP/1.1\r\n",
		"GET / HTTP/1.1\r\n\r\n", ok + "Host: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n", "GET / HTTP/1.1\r\nHost: a/b\r\n", "GET / HTTP/1.1\r\nHost: u@a\r\n",
		ok + " X: y\r\n", ok + "\tX: y\r\n", ok + "X : y\r\n", ok + "X\t: y\r\n", ok + "X y: z\r\n", ok + "X\r\n", ok + ": x\r\n", ok + "X: \x00\r\n", ok + "X: a\rb\r\n", ok + "X: a\n", ok + "X: \x7f\r\n", ok + "\n",
		ok + "Content-Length: 2\r\nContent-Length: 2\r\n", ok + "Content-Length: 2, 2\r\n", ok + "Content-Length: +2\r\n", ok + "Content-Length: -2\r\n", ok + "Content-Length:\r\n",
		ok + "Content-Length: 0x2\r\n", ok + "Content-Length: 2.0\r\n", ok + "Content-Length: 99999999999999999999\r\n", ok + "Content-Length: 9223372036854775808\r\n", ok + "Content-Length: 2 2\r\n",
		ok + "Transfer-Encoding: gzip, chunked\r\n", ok + "Transfer-Encoding: chunked, chunked\r\n", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", ok + "Transfer-Encoding:\r\n",
		ok + "Transfer-Encoding: \x0bchunked\r\n", ok + "Transfer-Encoding: \"chunked\"\r\n", ok + "Transfer-Encoding: chunked;\r\n",
		ok + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "P / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		bad[text] = BadFraming
	}
	const chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
	for _, body := range []string{
		"\r\n", "x\r\n", "+2\r\n", "-2\r\n", "0x2\r\n", " 2\r\n", "2\n", "2\r\r\n", "2;a\n", "2;a\rb\r\n", "2;\x00\r\n", "2;a=\"\x01\"\r\n", "2 2\r\n", "2,a\r\n",
		"100000000000000\r\n", "10000000000000002\r\n", "fffffffffffffffff\r\n", "2;" + strings.Repeat("a", 255) + "\r\n", strings.Repeat("0", 300),
		"2\r\n{}\n0\r\n\r\n", "2\r\n{} \r\n", "2\r\n{}0\r\n", "1\r\n{}\r\n", "2\r\n{}\r\r",
		"0\r\n\n", "0\r\nX\r\n", "0\r\n X: y\r\n", "0\r\nX: \x00\r\n", "0\r\nX: y\n", "0\r\nContent-Length: 2\r\n", "0\r\nhost: a\r\n", "0\r\nTransfer-Encoding: chunked\r\n", "0\r\nAuthorization: x\r\n",
		"0\r\n" + strings.Repeat("X: y\r\n", 2000), "0\r\nX: " + strings.Repeat("y", 8<<10),
	} {
		bad[chunked+body] = BadFraming
	}
	return bad
}

func TestBadRequestsEndTheConnection(t *testing.T) {
	const good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for text, kind := range badRequests() {
		got := parseAll(t, 8<<10, good+text) // nothing follows that could be bad, too
		if len(got.requests) != 1 || got.fault.Kind != kind || got.fault.Reason == "" || !got.last {
			t.Errorf("%.300q: %d requests, %+v, want kind %d", text, len(got.requests), got.fault, kind)
		}
	}
}

// The parsed requests are the same, however the bytes are split into reads.
func TestTheResultDoesNotDependOnHowBytesAreSplit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	good := []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\nP http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nGET / H",
		"P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n3;a=\"b\"\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n",
	}
	texts := []string{strings.Join(good, ""), good[2] + good[1] + good[0]}
	for text := range badRequests() {
		texts = append(texts, good[random.IntN(3)]+text+good[0])
	}
	for _, text := range texts {
		want := fmt.Sprint(parseAll(t, 1<<10, text))
		cuts := len(text)
		if cuts > 600 {
			cuts = 0
		}
		for at := range cuts {
			if got := fmt.Sprint(parseAll(t, 1<<10, text[:at], text[at:])); got != want {
				t.Fatalf("%q cut at %d:\n got %s\nwant %s", text, at, got, want)
			}
		}
		if got := fmt.Sprint(parseAll(t, 1<<10, strings.Split(text, "")...)); got != want {
			t.Fatalf("%.300q byte by byte:\n got %s\nwant %s", text, got, want)
		}
	}
}

// A header of exactly the maximum size is accepted. A header of one more byte is rejected.
func TestTheHeaderLimitIsExact(t *testing.T) {
	for _, filler := range []int{0, 1, 100} {
		text := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", filler) + "\r\n\r\n"
		for _, more := range []string{"", "\r\n\r\n", text} {
			if got := parseAll(t, len(text), "\r\n"+text+more); len(got.requests) == 0 || got.fault != (Fault{}) {
				t.Errorf("%d bytes: %+v", len(text), got)
			}
			if got := parseAll(t, len(text)-1, "\r\n"+text+more); len(got.requests) > 0 || got.fault.Kind != TooLarge {
				t.Errorf("%d bytes, limit %d: %+v", len(text), len(text)-1, got)
			}
		}
	}
}

// The next request is read only after the previous one was read to its end and answered. A
// response to an incomplete request ends the connection.
func TestRequestsAreReadOneAtATime(t *testing.T) {
	text := []byte("P / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n")
	c := New(8 << 10)
	var events []Event
	at := 0
	for range 6 {
		e, _, n := c.Next(text[at:])
		events, at = append(events, e), at+n
	}
	if !slices.Equal(events, []Event{Header, Body, End, More, More, More}) || string(text[at:at+3]) != "GET" {
		t.Errorf("events %v, unread %q", events, text[at:])
	}
	if c.State() != Done {
		t.Errorf("state %d before the response, want %d", c.State(), Done)
	}
	c.AppendResponse(nil, &Response{Status: 200})
	if e, _, n := c.Next(text[at:]); e != More || n != 0 || c.State() != Fields {
		t.Errorf("after the response: event %v, %d bytes consumed, state %d", e, n, c.State())
	}

	c = New(8 << 10)
	c.Next(text)
	if out := string(c.AppendResponse(nil, &Response{Status: 404})); !strings.Contains(out, "\r\nConnection: close\r\n") || !c.Last() {
		t.Errorf("want Connection: close and the last request, got %q", out)
	}
}

func TestResponseHeaders(t *testing.T) {
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                      "HTTP/1.1 201 Created\r\nDate: D\r\nContent-Type: T\r\nContent-Length: 7\r\nA: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": "HTTP/1.1 201 Created\r\nDate: D\r\nContent-Type: T\r\nContent-Length: 7\r\nA: b\r\nConnection: close\r\n\r\n",
		"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n":      "HTTP/1.1 201 Created\r\nDate: D\r\nContent-Type: T\r\nContent-Length: 7\r\nA: b\r\nConnection: keep-alive\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n":                                 "HTTP/1.1 201 Created\r\nDate: D\r\nContent-Type: T\r\nContent-Length: 7\r\nA: b\r\nConnection: close\r\n\r\n",
		"x\r\n":                                                  "HTTP/1.1 201 Created\r\nDate: D\r\nContent-Type: T\r\nContent-Length: 7\r\nA: b\r\nConnection: close\r\n\r\n",
		"P / HTTP/1.1\r\nContent-Length: 1\r\nHost: a\r\n\r\n":   "HTTP/1.1 201 Created\r\nDate: D\r\nContent-Type: T\r\nContent-Length: 7\r\nA: b\r\nConnection: close\r\n\r\n",
	} {
		c := New(8 << 10)
		c.Next([]byte(request))
		if got := string(c.AppendResponse(nil, &Response{Status: 201, Date: "D", Type: "T", Length: 7, ExtraFields: []Field{{"A", "b"}}})); got != want {
			t.Errorf("%q:\n got %q\nwant %q", request, got, want)
		}
		if c.HeaderOnly() != strings.HasPrefix(request, "HEAD") {
			t.Errorf("%q: header only: %t", request, c.HeaderOnly())
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	text := []byte("POST /api/usages HTTP/1.1\r\nHost: localhost:3000\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}")
	c := New(8 << 10)
	out := make([]byte, 0, 1<<10)
	if n := testing.AllocsPerRun(100, func() {
		at := 0
		for e := More; e != End; {
			var n int
			e, _, n = c.Next(text[at:])
			at += n
		}
		out = c.AppendResponse(out[:0], &Response{Status: 201, Type: "application/json", Length: 2})
	}); n > 0 {
		t.Errorf("%v allocations per request, want 0", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	text := []byte("POST /api/usages HTTP/1.1\r\nHost: localhost:3000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}")
	c := New(8 << 10)
	out := make([]byte, 0, 1<<10)
	for b.Loop() {
		at := 0
		for e := More; e != End; {
			var n int
			e, _, n = c.Next(text[at:])
			at += n
		}
		out = c.AppendResponse(out[:0], &Response{Status: 201, Type: "application/json", Length: 2})
	}
}

func TestRequestPaths(t *testing.T) {
	for target, want := range map[string]string{
		"/": "/", "/x?y": "/x", "/x?y=http://z/a": "/x", "http://a/x?y": "/x", "http://a": "", "http://a?x/y": "", "http://a?b://c/d": "", "//a/x": "//a/x", "HTTPS://a/": "/",
	} {
		c := New(8 << 10)
		if e, _, _ := c.Next([]byte("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")); e != Header {
			t.Errorf("%s: %v", target, c.Fault())
		} else if got := string(c.Request().Path()); got != want {
			t.Errorf("%s has the path %q, want %q", target, got, want)
		}
	}
}
