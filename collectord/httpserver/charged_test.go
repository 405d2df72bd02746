package httpserver

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
)

// until drives a connection by hand, up to a step.
func until(t *testing.T, c *conn, want step) {
	t.Helper()
	for {
		switch s := c.next(); s {
		case want:
			return
		case stepRead:
			if c.space == nil {
				c.makeSpace()
			}
			c.received(c.net.Read(c.space))
		case stepWrite:
			c.written(c.write())
		case stepPrepare:
			c.prepare()
		case stepAppend:
			c.stored(c.server.log.AppendSeq(context.Background(), c.request.records))
		case stepEnd:
			t.Fatalf("the connection ended before step %d: %s", want, c.net.(*script).out.String())
		}
	}
}

// All that a request holds beside its body is taken from a budget: which of its usages were
// rejected, their ids, and the answer with these, until it is written.
func TestWhatStandsBesideABodyIsCharged(t *testing.T) {
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
					headers := []string{ids}
					if name != "an array" {
						headers = append(headers, ndjson)
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
						rounds = 2 // the second one is answered again
					}
					for range rounds {
						c := h.newConn(&script{in: bytes.NewReader([]byte(request))})
						if !h.remembers() {
							until(t, c, stepAppend)
							r := c.request
							storing := cap(r.batch.gaps) + 24*len(r.parts) + len(r.body) // and its copy
							if cap(r.body) <= smallBody {
								storing += len(r.body)
							}
							if len(r.body) > freeBytes && !r.batch.single && r.stored < min(storing, h.opts.maxStored()) {
								t.Errorf("%d bytes for what was rejected, ids and copies, of which %d are taken", storing, r.stored)
							}
							if has, may := len(r.body)+r.answerSize(), r.held.mayHold(); has > may+freeBytes {
								t.Errorf("%d bytes of body and answer, of which %d are taken", has, may)
							}
							c.stored(h.log.AppendSeq(t.Context(), r.records))
						}
						until(t, c, stepWrite)
						if has, may := cap(c.large), c.held.mayHold(); has > may {
							t.Errorf("an answer of %d bytes, of which %d are taken", has, may)
						}
						if over := c.held.large - cap(c.large); over > bodyStep {
							t.Errorf("an answer of %d bytes holds %+v", cap(c.large), c.held)
						}
						c.written(c.write())
						c.close()
						if out := c.net.(*script).out.String(); !strings.HasPrefix(out, "HTTP/1.1 20") {
							t.Errorf("%.200s", out)
						}
						if h.inFlight.free != h.opts.MaxInFlight || h.small.free != smallBodies || h.storing.free != h.opts.maxStored() || h.decoding.free != h.opts.MaxBody {
							t.Errorf("free afterwards: %d, %d, %d, %d", h.inFlight.free, h.small.free, h.storing.free, h.decoding.free)
						}
					}
				})
			}
		}
	}
}

// remembers reports whether a request with a key was answered.
func (h *Server) remembers() bool { return h.window.to > h.window.from }

// A crowd that asks for ids holds no more than MaxInFlight with bodies and answers together.
func TestNobodyHoldsMoreByAskingForIDs(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{MaxInFlight: 1 << 20})
	h.small.take(smallBodies) // by others
	request := post(strings.Repeat(`{"a":"ninety bytes, as its id is"}`+"\n", 3000), ndjson, ids)
	var open []*conn
	held := 0
	for range 20 {
		c := h.newConn(&script{in: bytes.NewReader([]byte(request))})
		for c.request == nil || c.todo != stepPrepare {
			if c.next() != stepRead {
				break
			}
			if c.space == nil {
				c.makeSpace()
			}
			c.received(c.net.Read(c.space))
		}
		if c.request == nil { // there was no room for its body
			continue
		}
		c.todo = stepRead
		c.prepare()
		if c.request == nil { // nor for its answer
			if !strings.HasPrefix(string(c.out), "HTTP/1.1 503 ") {
				t.Fatalf("%s", c.out)
			}
			continue
		}
		held += len(c.request.body) + idText*len(c.request.parts)
		open = append(open, c)
	}
	if len(open) < 3 || held > h.opts.MaxInFlight+len(open)*2*freeBytes {
		t.Errorf("%d requests hold %d bytes with their answers, of %d", len(open), held, h.opts.MaxInFlight)
	}
	for _, c := range open {
		c.close()
	}
	if h.inFlight.free != h.opts.MaxInFlight || h.storing.free != h.opts.maxStored() {
		t.Errorf("free afterwards: %d, %d", h.inFlight.free, h.storing.free)
	}
}

// The text of an answer never is longer than what was taken for it.
func TestAnAnswerFitsWhatIsTakenForIt(t *testing.T) {
	faulty := strings.Join([]string{"1", "x", `{"a":1,"a":2}`, "{\"a\":\"\xff\"}", strings.Repeat(`{"a":`, 65), `{"a":1e999}`, "{} {}", "\xef\xbb\xbf{}", `{'a':1}`, `{"a":NaN}`, `{"a":1,}`, `{"a":"` + strings.Repeat("x", 2000) + `"}`, "{"}, "\n") + "\n"
	h := newServer(t, newMemoryLog(), Options{Limits: Limits{MaxRecord: 1 << 10}})
	for _, header := range []string{"X: y", ids} {
		c := h.newConn(&script{in: bytes.NewReader([]byte(post("{}\n"+strings.Repeat(faulty, 20), ndjson, header)))})
		until(t, c, stepAppend)
		most, faults := c.request.answerSize(), len(c.request.batch.faults)
		c.stored(h.log.AppendSeq(t.Context(), c.request.records))
		if len(c.large) > most || faults != maxErrors {
			t.Errorf("%d bytes, %d are taken for %d faults", len(c.large), most, faults)
		}
		c.close()
	}
}
