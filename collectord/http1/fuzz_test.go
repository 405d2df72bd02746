package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// parsedRequest is a request as one of the two parsers reads it.
type parsedRequest struct {
	method, target, host, fields, body string
}

// parseWithHTTP1 returns the requests in parts, and the fault that ended them, if any.
func parseWithHTTP1(parts ...[]byte) (all []parsedRequest, fault Fault) {
	c := New(8 << 10)
	var rest []byte
	var u parsedRequest
	for _, part := range parts {
		rest = append(rest, part...)
		for more := true; more; {
			e, piece, n := c.Next(rest)
			switch e {
			case More:
				more = false
			case Header:
				q := c.Request()
				u = parsedRequest{method: string(q.Method), target: string(q.Target), host: string(q.Host)}
				for lines := q.Fields(); ; {
					name, value, ok := lines.Next()
					if !ok {
						break
					}
					if name := http.CanonicalHeaderKey(string(name)); name != "Host" && name != "Transfer-Encoding" {
						u.fields += fmt.Sprintf("%s: %s\n", name, value)
					}
				}
			case Body:
				u.body += string(piece)
			case End:
				all = append(all, u)
				c.AppendResponse(nil, &Response{Status: 200})
			case Bad:
				return all, c.Fault()
			}
			rest = bytes.Clone(rest[n:])
		}
	}
	return all, Fault{}
}

// parseWithNetHTTP returns the requests that net/http reads from the same bytes.
func parseWithNetHTTP(text []byte) (all []parsedRequest) {
	from := bytes.NewReader(text)
	in := bufio.NewReader(from)
	unread := func() []byte { return text[len(text)-from.Len()-in.Buffered():] }
	for {
		for { // skip empty lines before a request, as servers do
			line, _, _ := bytes.Cut(unread(), []byte("\n"))
			if len(bytes.TrimSuffix(line, []byte("\r"))) > 0 {
				break
			}
			if n, _ := in.Discard(len(line) + 1); n <= len(line) {
				return all
			}
		}
		header := unread()
		req, err := http.ReadRequest(in)
		if err != nil {
			return all
		}
		header = header[:len(header)-len(unread())]
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return all
		}
		u := parsedRequest{method: req.Method, target: req.RequestURI, body: string(body)}
		for i, line := range strings.Split(string(header), "\r\n") { // net/http does not keep the order of fields
			name, value, _ := strings.Cut(line, ":")
			switch name = http.CanonicalHeaderKey(name); {
			case i == 0, name == "", name == "Transfer-Encoding":
			case name == "Host":
				u.host = strings.Trim(value, " \t")
			default:
				if !containsValue(req.Header[name], strings.Trim(value, " \t")) && name != "Content-Length" && name != "Trailer" { // these two are removed from Header
					u.fields += "not in its header: "
				}
				u.fields += name + ": " + strings.Trim(value, " \t") + "\n"
			}
		}
		all = append(all, u)
		if req.Close {
			return all
		}
	}
}

func containsValue(values []string, value string) bool {
	for _, v := range values {
		if v == value {
			return true
		}
	}
	return false
}

// FuzzRequests parses a connection's bytes with this package and with net/http, which
// stands for a proxy in front of the server. Both must agree on all requests that both
// accept. The result must not depend on how the bytes are split.
func FuzzRequests(f *testing.F) {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /x HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}",
		"\r\n\nPOST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2;a=\"b\"\r\n{}\r\n00\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}POST / HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 02\r\nTransfer-Encoding: chunked\r\n\r\n{}",
		"POST * HTTP/1.1\r\nHost: a\r\nX:\r\n y\r\n\r\n{}", "GET / HTTP/1.1\nHost: a\n\n", "P / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close, x\r\nContent-Length: 1\r\n\r\nx",
	} {
		f.Add([]byte(text), 7)
	}
	for text := range badRequests() {
		if len(text) < 1<<10 {
			f.Add([]byte(text), 3)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		if len(text) > 8<<10 {
			return
		}
		a, fault := parseWithHTTP1(text)
		b := parseWithNetHTTP(text)
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("request %d of %q:\nours   %+v\ntheirs %+v", i, text, a[i], b[i])
			}
		}
		cut = max(0, min(cut, len(text)))
		for _, parts := range [][][]byte{{text[:cut], text[cut:]}, bytes.SplitAfter(text, []byte("\r")), bytes.SplitAfter(text, nil)} {
			if c, other := parseWithHTTP1(parts...); fmt.Sprint(a, fault) != fmt.Sprint(c, other) {
				t.Fatalf("%q in %d parts:\n got %+v %+v\nwant %+v %+v", text, len(parts), c, other, a, fault)
			}
		}
	})
}
