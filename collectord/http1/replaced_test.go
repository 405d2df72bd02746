package http1

import (
	"slices"
	"strings"
	"testing"
)

// next gives text to a connection up to an event that is not More, and returns that and
// what is left.
func next(c *Conn, text string) (e Event, rest string) {
	e, _, n := c.Next([]byte(text))
	return e, text[n:]
}

// answer gives a connection a whole request and answers it.
func answer(t *testing.T, c *Conn, text string) {
	t.Helper()
	for e := More; e != End; {
		if e, text = next(c, text); e == Bad || e == More {
			t.Fatalf("event %d, %+v, before %q", e, c.Fault(), text)
		}
	}
	c.AppendAnswer(nil, &Answer{Status: 200})
}

// Nothing that a request said holds for the next one of its connection.
func TestARequestSaysNothingOfTheNext(t *testing.T) {
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
	type known struct {
		events         string
		request        Request
		fault          Fault
		last, answered bool
		left           int64
		answer         string
	}
	see := func(c *Conn, text string) (all []known) {
		for e := Header; e != More && e != Bad && e != End; {
			e, text = next(c, text)
			all = append(all, known{string('0' + rune(e)), c.request, c.fault, c.Last(), c.Answered(), c.Left(), ""})
		}
		out := string(c.AppendContinue(nil))
		all[len(all)-1].answer = out + string(c.AppendAnswer(nil, &Answer{Status: 200}))
		return all
	}
	for name, after := range afters {
		fresh := New(max)
		want := see(&fresh, after)
		for before, text := range befores {
			c := New(max)
			answer(t, &c, text)
			got := see(&c, after)
			if !slices.EqualFunc(got, want, func(a, b known) bool {
				x, y := a.request, b.request
				same := string(x.Method) == string(y.Method) && string(x.Target) == string(y.Target) && string(x.Host) == string(y.Host) && string(x.fields) == string(y.fields)
				x.forget()
				y.forget()
				return same && x.Length == y.Length && x.ExpectsContinue == y.ExpectsContinue && x.minor == y.minor && x.head == y.head &&
					a.events == b.events && a.fault == b.fault && a.last == b.last && a.answered == b.answered && a.left == b.left && a.answer == b.answer
			}) {
				t.Errorf("%s after %s:\n got %+v\nwant %+v", name, before, got, want)
			}
		}
	}
}

// What is a part of the bytes that Next was given is there until it is called again.
func TestTheHeaderIsForgottenWithItsBytes(t *testing.T) {
	text := "P / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
	c := New(8 << 10)
	e, _ := next(&c, text)
	q := c.Request()
	if e != Header || string(q.Method) != "P" || string(q.Target) != "/" || string(q.Host) != "a" {
		t.Fatalf("%d %+v", e, q)
	}
	next(&c, "")
	fields := q.Fields()
	if _, _, some := fields.Next(); q.Method != nil || q.Target != nil || q.Host != nil || some {
		t.Errorf("%+v", q)
	}
}

// What the table does not have ends the connection, and does not begin a request.
func TestWhatIsNotInTheTableIsBroken(t *testing.T) {
	broken := 0
	for from := range states {
		for what := nothing + 1; what < elements; what++ {
			c := New(8 << 10)
			c.state = from
			c.enter(what)
			if c.state != transitions[from][what] || c.state == Broken != (c.fault != Fault{}) && what != bad {
				t.Errorf("from %d by %d: %d, %+v", from, what, c.state, c.fault)
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

// An answer is written once, and what precedes it before it.
func TestAnAnswerIsWrittenOnce(t *testing.T) {
	c := New(8 << 10)
	next(&c, "P / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	if c.Answered() {
		t.Error("answered before")
	}
	if first, second := c.AppendContinue(nil), c.AppendContinue(nil); len(first) == 0 || len(second) > 0 || c.Answered() {
		t.Errorf("%q, then %q", first, second)
	}
	first := c.AppendAnswer(nil, &Answer{Status: 200})
	if second := c.AppendAnswer(nil, &Answer{Status: 404}); len(first) == 0 || len(second) > 0 || !c.Answered() {
		t.Errorf("%q, then %q", first, second)
	}
	if late := c.AppendContinue(nil); len(late) > 0 {
		t.Errorf("%q behind the answer", late)
	}
}

// The server may end a connection that the client would keep.
func TestAnAnswerThatEndsTheConnection(t *testing.T) {
	const text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	c := New(8 << 10)
	for range 2 {
		next(&c, text)
	}
	if c.Last() {
		t.Error("the last one before it is answered")
	}
	if out := string(c.AppendAnswer(nil, &Answer{Status: 200, Close: true})); !strings.Contains(out, "\r\nConnection: close\r\n") || !c.Last() {
		t.Errorf("%q", out)
	}
	if e, rest := next(&c, text); e != More || rest != text {
		t.Errorf("event %d, and %q is left", e, rest)
	}
}

// Of a line that comes in many reads, each byte is searched once.
func TestOnlyNewBytesAreSearched(t *testing.T) {
	text := "GET /" + strings.Repeat("x", 1000)
	c := New(8 << 10)
	for n := range len(text) {
		if next(&c, text[:n]); c.looked != n {
			t.Fatalf("%d of %d bytes were searched", c.looked, n)
		}
	}
}

// A bare line break before a request leaves no fault behind.
func TestAnEmptyLineIsNoFault(t *testing.T) {
	c := New(8 << 10)
	if e, _ := next(&c, "\n\r\nGET"); e != More || c.Fault() != (Fault{}) || c.Last() {
		t.Errorf("event %d, %+v", e, c.Fault())
	}
}

// No line of a trailer decides how a request is read, who sends it, or what it is.
func TestWhatHasNoPlaceInATrailer(t *testing.T) {
	for _, name := range []string{
		"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Idempotency-Key", "Transfer-Encoding",
	} {
		got := drive(t, 8<<10, "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"+tail+"2\r\n{}\r\n0\r\n"+name+": 1\r\n\r\n")
		if len(got.requests) > 0 || got.fault.Kind != BadFraming || !strings.Contains(got.fault.Reason, "trailer") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Whoever continues a line learns that this is what is not served.
func TestAContinuedLineHasItsReason(t *testing.T) {
	for line, want := range map[string]bool{" X: y": true, "\tX: y": true, "X y: z": false, ": x": false} {
		got := drive(t, 8<<10, "GET / HTTP/1.1\r\n"+line+"\r\n").fault
		if got.Kind != BadFraming || strings.Contains(got.Reason, "continued") != want {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// However much has come behind a request, it counts for no bound of the request.
func TestWhatFollowsIsNotTheRequests(t *testing.T) {
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
			if e, rest = next(&c, rest); e == Bad || e == More {
				t.Fatalf("event %d, %+v, in %q before %.20q", e, c.Fault(), text, rest)
			}
		}
		if rest != follows {
			t.Errorf("%d bytes are left behind %q", len(rest), text)
		}
	}
}
