package httpserver

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"collectord/wal"
)

func compress(t testing.TB, coding, body string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		var err error
		if w, err = zstd.NewWriter(&b); err != nil {
			t.Fatal(err)
		}
	default:
		return body
	}
	_, err := io.WriteString(w, body)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func postChunked(body string, headers ...string) string {
	var b strings.Builder
	b.WriteString("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n")
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	for size := 1; len(body) > 0; size *= 3 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x;ext=1\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\n\r\n")
	return b.String()
}

func TestBodiesInEachCodingAndFraming(t *testing.T) {
	many := strings.Repeat("{\"a\":\"some text\"}\n", 20_000)
	for _, coding := range []string{"", "gzip", "zstd"} {
		for name, c := range map[string]struct {
			body string
			n    int
			head []string
		}{
			"one":   {`{"a":1}`, 1, nil},
			"array": {`[{"a":1},{"a":2}]`, 2, nil},
			"many":  {many, 20_000, []string{ndjsonHeader}},
		} {
			for framing, frame := range map[string]func(string, ...string) string{
				"length": post, "chunks": postChunked,
				"HTTP/1.0": func(body string, h ...string) string {
					return strings.Replace(post(body, h...), "HTTP/1.1", "HTTP/1.0", 1)
				},
			} {
				t.Run(coding+" "+name+" "+framing, func(t *testing.T) {
					t.Parallel()
					head := c.head
					if coding != "" {
						head = append(head[:len(head):len(head)], "Content-Encoding: "+coding)
					}
					log := newMemoryLog()
					h, addr := startServer(t, log, Options{})
					a, body := roundTrip(t, addr, frame(compress(t, coding, c.body), head...))
					if a.StatusCode != http.StatusCreated || len(log.usages) != c.n || log.appends != 1 {
						t.Errorf("%s %s, %d stored", a.Status, body, len(log.usages))
					}
					if h.inFlight.free != h.opts.MaxInFlight || h.storing.free != h.opts.maxStoringBytes() {
						t.Errorf("%d bytes in flight, %d free for storing", h.opts.MaxInFlight-h.inFlight.free, h.storing.free)
					}
				})
			}
		}
	}
}

func TestContentEncodings(t *testing.T) {
	t.Parallel()
	gz, zs := compress(t, "gzip", `{"a":1}`), compress(t, "zstd", `{"a":1}`)
	// A frame header that asks for a window of 16 MiB: 2^(10+14).
	window := "\x28\xb5\x2f\xfd\x00\x70" + "\x01\x00\x00"
	bomb := strings.Repeat(" ", 1<<20) + "{}"
	for name, c := range map[string]struct {
		coding, body string
		status       int
		want         string
	}{
		"not gzip":           {"gzip", `{"a":1}`, 400, "bad_encoding"},
		"gzip, empty":        {"gzip", "", 400, "empty"},
		"gzip, truncated":    {"gzip", gz[:len(gz)-1], 400, "ends too soon at byte 7 of the decoded body"},
		"gzip, garbage":      {"gzip", gz + "x", 400, "bad_encoding"},
		"gzip, two members":  {"x-gzip", compress(t, "gzip", `{"a":`) + compress(t, "gzip", `1}`), 201, "id"},
		"gzip, padded":       {"gzip", gz + strings.Repeat("\x00", 10_000), 201, "id"},
		"gzip, two, padded":  {"gzip", compress(t, "gzip", `{"a":`) + compress(t, "gzip", `1}`) + "\x00", 201, "id"},
		"gzip, padded, more": {"gzip", gz + "\x00\x00" + gz, 400, "bad_encoding"},
		"gzip, only zeros":   {"gzip", "\x00\x00\x00\x00", 400, "bad_encoding"},
		"gzip, checksum":     {"gzip", gz[:len(gz)-8] + "\x00" + gz[len(gz)-7:], 400, "damaged"},
		"not zstd":           {"zstd", `{"a":1}`, 400, "bad_encoding"},
		"zstd, truncated":    {"zstd", zs[:len(zs)-1], 400, "ends too soon"},
		"zstd, two frames":   {"ZSTD", compress(t, "zstd", `{"a":`) + compress(t, "zstd", `1}`), 201, "id"},
		"zstd, window":       {"zstd", window, 400, "window beyond 8388608 bytes"},
		"gzip, bomb":         {"gzip", compress(t, "gzip", bomb), 413, "http.max_decoded"},
		"zstd, bomb":         {"zstd", compress(t, "zstd", bomb), 413, "http.max_decoded"},
		"both":               {"gzip, zstd", gz, 415, "unsupported_encoding"},
		"br":                 {"br", gz, 415, "unsupported_encoding"},
		"identity":           {"identity", `{"a":1}`, 201, "id"},
	} {
		t.Run(name, func(t *testing.T) {
			log := newMemoryLog()
			h, addr := startServer(t, log, Options{MaxDecoded: 1 << 20})
			a, body := roundTrip(t, addr, post(c.body, "Content-Encoding: "+c.coding))
			if a.StatusCode != c.status || !strings.Contains(body, c.want) {
				t.Errorf("%s %s", a.Status, body)
			}
			if c.status == http.StatusUnsupportedMediaType && a.Header.Get("Accept-Encoding") != "gzip, zstd" {
				t.Errorf("Accept-Encoding: %s", a.Header.Get("Accept-Encoding"))
			}
			if c.status > 201 && (len(log.usages) > 0 || len(log.rejected) != 1) {
				t.Errorf("stored %v, rejected %v", log.usages, log.rejected)
			}
			if h.inFlight.free != h.opts.MaxInFlight {
				t.Errorf("%d bytes still count as in flight", h.opts.MaxInFlight-h.inFlight.free)
			}
		})
	}
}

// A truncated body may be valid JSON by chance.
func TestTruncatedBodiesStoreNothing(t *testing.T) {
	whole := strings.Repeat("{}\n", 10_000)
	for name, request := range map[string]string{
		"at once":        "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"a\":1}",
		"after 30 KB":    strings.Replace(post(whole, ndjsonHeader), "Content-Length: 30000", "Content-Length: 30001", 1),
		"after 8 KiB":    "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8193\r\n" + ndjsonHeader + "\r\n\r\n" + whole[:8190] + "\n\n",
		"before chunk":   strings.TrimSuffix(postChunked(whole, ndjsonHeader), "0\r\n\r\n"),
		"in the trailer": strings.TrimSuffix(postChunked(whole, ndjsonHeader), "\r\n"),
		"in a chunk":     "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"a\":1}",
		"bad chunk":      "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			log := newMemoryLog()
			h, addr := startServer(t, log, Options{})
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			response, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(response), "HTTP/1.1 400 ") {
				t.Errorf("%v %s", err, response)
			}
			waitFor(t, func() bool { return h.Connections() == 0 })
			if len(log.usages) > 0 {
				t.Errorf("%d usages are stored, want 0", len(log.usages))
			}
		})
	}
}

func TestAResponseDuringTheBodyReachesTheClient(t *testing.T) {
	_, addr := startServer(t, newMemoryLog(), Options{MaxBody: 1 << 20})
	for range 20 {
		resp, err := http.Post("http://"+addr+"/api/usages", "", strings.NewReader(strings.Repeat(" ", 8<<20)))
		if err != nil {
			t.Fatal(err) // such as a reset connection
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Fatal(resp.Status)
		}
	}
}

func TestBytesInFlightAreBounded(t *testing.T) {
	log := newMemoryLog()
	h, addr := startServer(t, log, Options{MaxInFlight: 1 << 20})
	slow, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	part := strings.Repeat(" ", 900<<10)
	if _, err := fmt.Fprintf(slow, "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(part)+2, part); err != nil {
		t.Fatal(err)
	}
	inFlight := func() int {
		h.inFlight.mu.Lock()
		defer h.inFlight.mu.Unlock()
		return h.opts.MaxInFlight - h.inFlight.free
	}
	waitFor(t, func() bool { return inFlight() >= len(part)-smallBodyBytes })
	big := post(strings.Repeat(" ", 500<<10) + "{}")
	a, body := roundTrip(t, addr, big)
	if a.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, CodeOverloaded) || a.Header.Get("Retry-After") == "" || !a.Close {
		t.Errorf("%s %s", a.Status, body)
	}
	if a, body := roundTrip(t, addr, post(strings.Repeat(" ", 60<<10)+"{}")); a.StatusCode != http.StatusCreated {
		t.Errorf("a body below 64 KiB: %s %s", a.Status, body)
	}
	if _, err := io.WriteString(slow, "{}"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return inFlight() == 0 })
	if a, body := roundTrip(t, addr, big); a.StatusCode != http.StatusCreated {
		t.Errorf("after the first body was released: %s %s", a.Status, body)
	}
	if log.rejected["http overloaded"] != 1 {
		t.Errorf("rejected %v, want one overloaded", log.rejected)
	}
}

func TestSmallBodiesShareABudget(t *testing.T) {
	h, addr := startServer(t, newMemoryLog(), Options{})
	if !h.small.tryReserve(smallBodiesBytes) || !h.inFlight.tryReserve(h.opts.MaxInFlight) {
		t.Fatal("an idle server does not have all of its budgets free")
	}
	small, unbudgeted := post(strings.Repeat(" ", 60<<10)+"{}"), post(strings.Repeat(" ", unbudgetedBytes-2)+"{}")
	if a, body := roundTrip(t, addr, small); a.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, CodeOverloaded) {
		t.Errorf("a small body: %s %s", a.Status, body)
	}
	if a, body := roundTrip(t, addr, unbudgeted); a.StatusCode != http.StatusCreated {
		t.Errorf("a body within unbudgetedBytes: %s %s", a.Status, body)
	}
	for name, b := range map[string]*budget{"large bodies": &h.inFlight, "small bodies": &h.small} {
		n := max(budgetStepBytes, smallBodyBytes-unbudgetedBytes)
		b.release(n)
		if a, body := roundTrip(t, addr, small); a.StatusCode != http.StatusCreated {
			t.Errorf("after a release to the budget for %s: %s %s", name, a.Status, body)
		}
		waitFor(t, func() bool { return b.tryReserve(n) })
	}
	h.small.release(smallBodiesBytes)
	waitFor(t, func() bool {
		if !h.small.tryReserve(smallBodiesBytes) {
			return false
		}
		h.small.release(smallBodiesBytes)
		return true
	})
}

func TestSlowCompressedBodiesOccupyNoDecoder(t *testing.T) {
	_, addr := startServer(t, newMemoryLog(), Options{})
	body := compress(t, "zstd", `{"a":1}`)
	for range 3 * maxDecoders {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: zstd\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%s\r\n", body[:1]); err != nil {
			t.Fatal(err)
		}
	}
	if a, text := roundTrip(t, addr, post(body, "Content-Encoding: zstd")); a.StatusCode != http.StatusCreated {
		t.Errorf("%s %s", a.Status, text)
	}
}

func TestExpectationsAreDecidedBeforeTheBody(t *testing.T) {
	log := newMemoryLog()
	_, addr := startServer(t, log, Options{})
	head := func(line string, headers ...string) string {
		return line + "\r\nHost: localhost\r\nContent-Length: 7\r\n" + strings.Join(append(headers, "Expect: 100-continue"), "\r\n") + "\r\n\r\n"
	}
	for request, status := range map[string]int{
		head("POST /api/usages HTTP/1.1"):                                                   100,
		head("POST /other HTTP/1.1"):                                                        404,
		head("PUT /api/usages HTTP/1.1"):                                                    405,
		head("POST /api/usages HTTP/1.1", "Content-Type: text/plain"):                       415,
		head("POST /api/usages HTTP/1.1", "Content-Encoding: br"):                           415,
		head("POST /api/usages HTTP/1.1", "Transfer-Encoding: gzip"):                        400,
		head("POST /api/usages HTTP/1.1", "Idempotency-Key: a b"):                           400,
		strings.Replace(head("POST /api/usages HTTP/1.1"), "100-c", "200-c", 1) + "0123456": 417,
	} {
		if a, body := roundTrip(t, addr, request); a.StatusCode != status || a.Close != (status != 100) {
			t.Errorf("%q: %s %s", request, a.Status, body)
		}
	}
	// HTTP/1.0 ignores Expect.
	if a, _ := roundTrip(t, addr, head("POST /api/usages HTTP/1.0")+`{"a":1}`); a.StatusCode != http.StatusCreated {
		t.Error(a.Status)
	}
	log.mu.Lock()
	log.appendErr = fmt.Errorf("%w: for a reason", wal.ErrFull)
	log.mu.Unlock()
	if a, body := roundTrip(t, addr, head("POST /api/usages HTTP/1.1")); a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("full log: %s %s", a.Status, body)
	}
}
