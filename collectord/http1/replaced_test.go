package http1

import (
	"slices"
	"strings"
	"testing"
)

// nextEvent passes text to a connection, and returns the event and the unconsumed text.
func nextEvent(c *Conn, text string) (e Event, rest string) {
	e, _, n := c.Next([]byte(text))
	return e, text[n:]
}

// exchange passes a complete request to a connection and responds to it.
func exchange(t *testing.T, c *Conn, text string) {
	t.Helper()
	for e := More; e != End; {
		if e, text = nextEvent(c, text); e == Bad || e == More {
			t.Fatalf("event %d, fault %+v, before %q", e, c.Fault(), text)
		}
	}
	c.AppendResponse(nil, &Response{Status: 200})
}

// Nothing that a request set applies to the next one on its connection.
func TestNoStateOfARequestReachesTheNext(t *testing.T) {
	const max = 256
	trailer := "0\r\nX: " + strings.Repeat("x", max*3/4) + "\r\n\r\n"
	befores := map[string]string{
		"head":    "HEAD /before HTTP/1.1\r\nHost: before\r\n\r\n",
		"expects": "P /before HTTP/1.1\r\nHost: before\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
		"chunks":  "P /before HTTP/1.1\r\nHost: before\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n" + trailer,
		"keeps":   "P /before HTTP/1.0\r\nHost: before\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
		"lines":   "\n\r\nGET /before HTTP/1.1\r\nHost: before\r\n\r\n",
	}
	afters := map[string]string{
		"no host": "GET /after HTTP/1.0\r\n\r\n", "no host, keeps": "GET /after HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"length": "P /after HTTP/1.1\r\nHost: after\r\nContent-Length: 2\r\n\r\n{}", "chunks": "P /after HTTP/1.1\r\nHost: after\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n" + trailer,
		"none": "GET /after HTTP/1.1\r\nHost: after\r\n\r\n", "bad": "after\r\n", "half": "GET /after", "broken length": "P /after HTTP/1.1\r\nHost: after\r\nContent-Length: x\r\n",
	}
	type observation struct {
		events         string
		request        Request
		fault          Fault
		last, answered bool
		left           int64
		response       string
	}
	observe := func(c *Conn, text string) (all []observation) {
		for e := Header; e != More && e != Bad && e != End; {
			e, text = nextEvent(c, text)
			all = append(all, observation{string('0' + rune(e)), c.request, c.fault, c.Last(), c.Answered(), c.BodyLeft(), ""})
		}
		out := string(c.AppendContinue(nil))
		all[len(all)-1].response = out + string(c.AppendResponse(nil, &Response{Status: 200}))
		return all
	}
	for name, after := range afters {
		fresh := New(max)
		want := observe(&fresh, after)
		for before, text := range befores {
			c := New(max)
			exchange(t, &c, text)
			got := observe(&c, after)
			if !slices.EqualFunc(got, want, func(a, b observation) bool {
				x, y := a.request, b.request
				same := string(x.Method) == string(y.Method) && string(x.Target) == string(y.Target) && string(x.Host) == string(y.Host) && string(x.fields) == string(y.fields)
				x.dropSlices()
				y.dropSlices()
				return same && x.Length == y.Length && x.ExpectsContinue == y.ExpectsContinue && x.minor == y.minor && x.head == y.head &&
					a.events == b.events && a.fault == b.fault && a.last == b.last && a.answered == b.answered && a.left == b.left && a.response == b.response
			}) {
				t.Errorf("%s after %s:\n got %+v\nwant %+v", name, before, got, want)
			}
		}
	}
}

// The slices of a Request are valid until the next call of Next, and nil afterwards.
func TestHeaderSlicesAreDroppedAtTheNextCall(t *testing.T) {
	text := "P / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
	c := New(8 << 10)
	e, _ := nextEvent(&c, text)
	q := c.Request()
	if e != Header || string(q.Method) != "P" || string(q.Target) != "/" || string(q.Host) != "a" {
		t.Fatalf("%d %+v", e, q)
	}
	nextEvent(&c, "")
	fields := q.Fields()
	if _, _, some := fields.Next(); q.Method != nil || q.Target != nil || q.Host != nil || some {
		t.Errorf("slices remain: %+v", q)
	}
}

// A transition that the table lacks ends the connection and sets a fault.
func TestTransitionsNotInTheTableLeadToBroken(t *testing.T) {
	broken := 0
	for from := range states {
		for elem := nothing + 1; elem < elements; elem++ {
			c := New(8 << 10)
			c.state = from
			c.enter(elem)
			if c.state != transitions[from][elem] || c.state == Broken != (c.fault != Fault{}) && elem != bad {
				t.Errorf("from %d by %d: %d, %+v", from, elem, c.state, c.fault)
			}
			if c.state == Broken {
				broken++
			}
		}
	}
	if want := int(states)*int(elements-1) - 16; broken != want { // the rows of doc.go
		t.Errorf("%d pairs are broken, want %d", broken, want)
	}
}

// A request gets one response, and 100 Continue only before it.
func TestAResponseIsAppendedOnce(t *testing.T) {
	c := New(8 << 10)
	nextEvent(&c, "P / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	if c.Answered() {
		t.Error("the request is answered before its response")
	}
	if first, second := c.AppendContinue(nil), c.AppendContinue(nil); len(first) == 0 || len(second) > 0 || c.Answered() {
		t.Errorf("%q, then %q", first, second)
	}
	first := c.AppendResponse(nil, &Response{Status: 200})
	if second := c.AppendResponse(nil, &Response{Status: 404}); len(first) == 0 || len(second) > 0 || !c.Answered() {
		t.Errorf("%q, then %q", first, second)
	}
	if late := c.AppendContinue(nil); len(late) > 0 {
		t.Errorf("%q was appended after the response", late)
	}
}

// A response can end a connection that the client would keep open.
func TestAResponseCanEndTheConnection(t *testing.T) {
	const text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	c := New(8 << 10)
	for range 2 {
		nextEvent(&c, text)
	}
	if c.Last() {
		t.Error("the request is the last one before its response")
	}
	if out := string(c.AppendResponse(nil, &Response{Status: 200, Close: true})); !strings.Contains(out, "\r\nConnection: close\r\n") || !c.Last() {
		t.Errorf("want Connection: close and the last request, got %q", out)
	}
	if e, rest := nextEvent(&c, text); e != More || rest != text {
		t.Errorf("event %d, unconsumed %q", e, rest)
	}
}

// Each byte of a line that arrives in many reads is searched once.
func TestOnlyNewBytesAreSearched(t *testing.T) {
	text := "GET /" + strings.Repeat("x", 1000)
	c := New(8 << 10)
	for n := range len(text) {
		if nextEvent(&c, text[:n]); c.searched != n {
			t.Fatalf("%d of %d bytes were searched", c.searched, n)
		}
	}
}

// A bare line break before a request leaves no fault.
func TestAnEmptyLineLeavesNoFault(t *testing.T) {
	c := New(8 << 10)
	if e, _ := nextEvent(&c, "\n\r\nGET"); e != More || c.Fault() != (Fault{}) || c.Last() {
		t.Errorf("event %d, %+v", e, c.Fault())
	}
}

// A trailer field that would decide the framing, the client or the body's type is rejected.
func TestFramingFieldsAreRejectedInATrailer(t *testing.T) {
	for _, name := range []string{
		"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Idempotency-Key", "Transfer-Encoding",
	} {
		got := parseAll(t, 8<<10, "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"+hostAndEnd+"2\r\n{}\r\n0\r\n"+name+": 1\r\n\r\n")
		if len(got.requests) > 0 || got.fault.Kind != BadFraming || !strings.Contains(got.fault.Reason, "trailer") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// The fault for a continued line gives the continuation as its reason.
func TestAContinuedLineIsNamedAsTheReason(t *testing.T) {
	for line, want := range map[string]bool{" X: y": true, "\tX: y": true, "X y: z": false, ": x": false} {
		got := parseAll(t, 8<<10, "GET / HTTP/1.1\r\n"+line+"\r\n").fault
		if got.Kind != BadFraming || strings.Contains(got.Reason, "continued") != want {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// Bytes that follow a request do not count towards its limits.
func TestBytesAfterARequestDoNotCountForItsLimits(t *testing.T) {
	const max = 256
	follows := strings.Repeat("x", 2*max)
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\n{}\r\n0\r\nX: y\r\nZ: " + strings.Repeat("z", max-20) + "\r\n\r\n",
	} {
		c := New(max)
		rest := text + follows
		for e := More; e != End; {
			if e, rest = nextEvent(&c, rest); e == Bad || e == More {
				t.Fatalf("event %d, %+v, in %q before %.20q", e, c.Fault(), text, rest)
			}
		}
		if rest != follows {
			t.Errorf("%d bytes are left after %q, want %d", len(rest), text, len(follows))
		}
	}
}
