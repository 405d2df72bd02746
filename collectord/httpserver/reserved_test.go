package httpserver

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
)

// driveUntil drives a connection until it needs a step.
func driveUntil(t *testing.T, c *conn, want step) {
	t.Helper()
	for {
		switch s := c.next(); s {
		case want:
			return
		case stepRead:
			if c.readSpace == nil {
				c.makeReadSpace()
			}
			c.received(c.net.Read(c.readSpace))
		case stepWrite:
			c.written(c.write())
		case stepPrepare:
			c.prepare()
		case stepAppend:
			c.stored(c.server.log.AppendSeq(context.Background(), c.request.records))
		case stepEnd:
			t.Fatalf("the connection ended before step %d: %s", want, c.net.(*scriptedConn).out.String())
		}
	}
}

// The memory of a request beside its body is reserved: the set of rejected usages, the ids,
// and the response until it is written.
func TestMemoryBesideTheBodyIsReserved(t *testing.T) {
	bodies := map[string]string{
		"numbers":        "{}\n" + strings.Repeat("1\n", 19_999),
		"objects":        strings.Repeat("{}\n", 20_000),
		"both":           strings.Repeat("{}\n1\n", 10_000),
		"an array":       "[{}" + strings.Repeat(",1", 19_999) + "]",
		"few":            strings.Repeat("{}\n", 40),
		"few, and worse": strings.Repeat("{}\n[]\n", 40),
		"within 4 KiB":   strings.Repeat("{}\n1\n", 800),
		"one":            "{}",
		"one, large":     `{"a":"` + strings.Repeat("x", 100_000) + `"}`,
	}
	for name, body := range bodies {
		for _, coding := range []string{"", "zstd"} {
			for _, key := range []string{"", "Idempotency-Key: k"} {
				t.Run(fmt.Sprintf("%s,%s,%s", name, coding, key), func(t *testing.T) {
					h := newServer(t, newMemoryLog(), Options{})
					headers := []string{idsHeader}
					if name != "an array" {
						headers = append(headers, ndjsonHeader)
					}
					if coding != "" {
						headers = append(headers, "Content-Encoding: "+coding)
					}
					if key != "" {
						headers = append(headers, key)
					}
					request := post(compress(t, coding, body), headers...)
					rounds := 1
					if key != "" {
						rounds = 2 // the second request repeats the first
					}
					for range rounds {
						c := h.newConn(&scriptedConn{in: bytes.NewReader([]byte(request))})
						if !h.hasRememberedKeys() {
							driveUntil(t, c, stepAppend)
							r := c.request
							storing := cap(r.batch.rejectedSet) + 24*len(r.ranges) + len(r.body) // including the log's copy
							if cap(r.body) <= smallBodyBytes {
								storing += len(r.body)
							}
							if len(r.body) > unbudgetedBytes && !r.batch.single && r.storingBytes < min(storing, h.opts.maxStoringBytes()) {
								t.Errorf("%d bytes for rejections, ids and copies, %d reserved", storing, r.storingBytes)
							}
							if has, may := len(r.body)+r.maxResponseBytes(), r.reserved.allowedBytes(); has > may+unbudgetedBytes {
								t.Errorf("%d bytes of body and response, %d reserved", has, may)
							}
							c.stored(h.log.AppendSeq(t.Context(), r.records))
						}
						driveUntil(t, c, stepWrite)
						if has, may := cap(c.largeBody), c.largeReserved.allowedBytes(); has > may {
							t.Errorf("a response of %d bytes, %d reserved", has, may)
						}
						if over := c.largeReserved.large - cap(c.largeBody); over > budgetStepBytes {
							t.Errorf("a response of %d bytes reserves %+v", cap(c.largeBody), c.largeReserved)
						}
						c.written(c.write())
						c.close()
						if out := c.net.(*scriptedConn).out.String(); !strings.HasPrefix(out, "HTTP/1.1 20") {
							t.Errorf("%.200s", out)
						}
						if h.inFlight.free != h.opts.MaxInFlight || h.small.free != smallBodiesBytes || h.storing.free != h.opts.maxStoringBytes() || h.decoding.free != h.opts.MaxBody {
							t.Errorf("free bytes afterwards:  %d, %d, %d, %d", h.inFlight.free, h.small.free, h.storing.free, h.decoding.free)
						}
					}
				})
			}
		}
	}
}

// hasRememberedKeys reports whether the server remembers a request with a key.
func (h *Server) hasRememberedKeys() bool { return h.window.next > h.window.oldest }

// Bodies and responses of many requests that ask for ids take at most MaxInFlight in total.
func TestRequestsForIDsStayWithinTheBudget(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{MaxInFlight: 1 << 20})
	h.small.tryReserve(smallBodiesBytes) // by other requests
	request := post(strings.Repeat(`{"a":"ninety bytes, as its id is"}`+"\n", 3000), ndjsonHeader, idsHeader)
	var open []*conn
	held := 0
	for range 20 {
		c := h.newConn(&scriptedConn{in: bytes.NewReader([]byte(request))})
		for c.request == nil || c.nextStep != stepPrepare {
			if c.next() != stepRead {
				break
			}
			if c.readSpace == nil {
				c.makeReadSpace()
			}
			c.received(c.net.Read(c.readSpace))
		}
		if c.request == nil { // no memory for its body
			continue
		}
		c.nextStep = stepRead
		c.prepare()
		if c.request == nil { // no memory for its response
			if !strings.HasPrefix(string(c.out), "HTTP/1.1 503 ") {
				t.Fatalf("want 503, got %s", c.out)
			}
			continue
		}
		held += len(c.request.body) + idTextBytes*len(c.request.ranges)
		open = append(open, c)
	}
	if len(open) < 3 || held > h.opts.MaxInFlight+len(open)*2*unbudgetedBytes {
		t.Errorf("%d requests use %d bytes with their responses, limit %d", len(open), held, h.opts.MaxInFlight)
	}
	for _, c := range open {
		c.close()
	}
	if h.inFlight.free != h.opts.MaxInFlight || h.storing.free != h.opts.maxStoringBytes() {
		t.Errorf("free bytes afterwards:  %d, %d", h.inFlight.free, h.storing.free)
	}
}

// A response is never longer than the memory that was reserved for it.
func TestAResponseFitsItsReservation(t *testing.T) {
	faulty := strings.Join([]string{"1", "x", `{"a":1,"a":2}`, "{\"a\":\"\xff\"}", strings.Repeat(`{"a":`, 65), `{"a":1e999}`, "{} {}", "\xef\xbb\xbf{}", `{'a':1}`, `{"a":NaN}`, `{"a":1,}`, `{"a":"` + strings.Repeat("x", 2000) + `"}`, "{"}, "\n") + "\n"
	h := newServer(t, newMemoryLog(), Options{Limits: Limits{MaxRecord: 1 << 10}})
	for _, header := range []string{"X: y", idsHeader} {
		c := h.newConn(&scriptedConn{in: bytes.NewReader([]byte(post("{}\n"+strings.Repeat(faulty, 20), ndjsonHeader, header)))})
		driveUntil(t, c, stepAppend)
		reserved, faults := c.request.maxResponseBytes(), len(c.request.batch.faults)
		c.stored(h.log.AppendSeq(t.Context(), c.request.records))
		if len(c.largeBody) > reserved || faults != maxErrors {
			t.Errorf("a response of %d bytes, %d reserved for %d faults", len(c.largeBody), reserved, faults)
		}
		c.close()
	}
}
