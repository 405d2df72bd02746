package httpserver

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
	"collectord/wal"
)

// manual is a connection that a test drives by hand.
type manual struct {
	*conn
	t    *testing.T
	wire *wire
	log  *memoryLog
}

// wire is a connection whose reads the test makes itself.
type wire struct {
	script
	fails    error // of writes
	writes   int
	deadline int // how often one was set
}

func (w *wire) Write(p []byte) (int, error) {
	w.writes++
	if w.fails != nil {
		return 0, w.fails
	}
	return w.script.Write(p)
}

func (w *wire) SetDeadline(time.Time) error { w.deadline++; return nil }

func newManual(t *testing.T, o Options) *manual {
	t.Helper()
	log := newMemoryLog()
	h := newServer(t, log, o)
	w := &wire{script: script{in: bytes.NewReader(nil)}}
	m := &manual{conn: h.newConn(w), t: t, wire: w, log: log}
	m.enter(stateOpening)
	return m
}

// gives drives the connection with text as far as that goes, in reads of at most most
// bytes, and returns what it needs then.
func (m *manual) gives(text string, most int) step {
	m.t.Helper()
	for {
		switch s := m.next(); s {
		case stepRead:
			if len(m.space) == 0 {
				m.t.Fatal("there is no room to read into")
			}
			n := copy(m.space, text[:min(len(text), most)])
			if n == 0 {
				return stepRead
			}
			text = text[n:]
			m.received(n, nil)
		case stepPrepare:
			m.prepare()
		case stepAppend:
			m.stored(m.server.log.AppendSeq(m.t.Context(), m.request.records))
		default:
			return s
		}
	}
}

// answers takes what is to be written, and returns the statuses of it.
func (m *manual) answers() (all string) {
	m.t.Helper()
	m.wire.out.Reset()
	m.written(m.write())
	for line := range strings.Lines(m.wire.out.String()) {
		if strings.HasPrefix(line, "HTTP/1.1 ") {
			all += " " + line[9:12]
		}
	}
	if strings.Contains(m.wire.out.String(), "Connection: close") {
		all += " closed"
	}
	return strings.TrimPrefix(all, " ")
}

// What becomes of a connection on which nothing more comes: by its state, whether that is
// since its time is over, whether it had to make room, and whether it was ended.
func TestHowAConnectionStops(t *testing.T) {
	gone, late := io.EOF, os.ErrDeadlineExceeded
	one := post(`{"a":1}`)
	sent := map[state]string{stateOpening: "", stateHeader: "POST /api", stateBody: one[:len(one)-1], stateIdle: one}
	for _, c := range []struct {
		in   state
		err  error
		cut  bool
		last bool
		want string
	}{
		{stateOpening, gone, false, false, ""},
		{stateOpening, gone, false, true, ""},
		{stateOpening, gone, true, true, ""},
		{stateOpening, late, false, false, "408 closed"},
		{stateOpening, late, false, true, ""}, // the server shuts down
		{stateOpening, late, true, true, "503 closed"},
		{stateHeader, gone, false, false, "400 closed"},
		{stateHeader, gone, false, true, "400 closed"},
		{stateHeader, gone, true, true, "400 closed"},
		{stateHeader, late, false, false, "408 closed"},
		{stateHeader, late, false, true, "408 closed"},
		{stateHeader, late, true, true, "503 closed"},
		{stateBody, gone, false, false, "400 closed"},
		{stateBody, gone, true, true, "400 closed"},
		{stateBody, late, false, false, "408 closed"},
		{stateBody, late, false, true, "408 closed"},
		{stateBody, late, true, true, "503 closed"},
		{stateIdle, gone, false, false, ""},
		{stateIdle, late, false, false, ""},
		{stateIdle, late, true, true, ""},
	} {
		t.Run(fmt.Sprint(stateNames[c.in], c.err, c.cut, c.last), func(t *testing.T) {
			m := newManual(t, Options{})
			if m.gives(sent[c.in], 1000) == stepWrite {
				m.answers()
				m.gives("", 1)
			}
			if m.state != c.in {
				t.Fatal(stateNames[m.state])
			}
			if c.cut {
				m.hold.Store(taken)
			}
			m.last = c.last
			m.received(0, c.err)
			got := ""
			if m.next() == stepWrite {
				got = m.answers()
			}
			if got != c.want || m.next() != stepEnd {
				t.Errorf("%q, want %q", got, c.want)
			}
			reason := map[string]string{"400 closed": "http bad_request", "408 closed": "http timeout", "503 closed": "http overloaded"}[got]
			if c.in == stateBody && (m.log.rejected[reason] != 1 || len(m.log.rejected) != 1) || c.in != stateBody && len(m.log.rejected) > 0 {
				t.Errorf("counted %v", m.log.rejected)
			}
		})
	}
}

// Whether an answer ends the connection, and whether what follows is read before that.
func TestWhatEndsWithAnAnswer(t *testing.T) {
	one := post(`{"a":1}`)
	closing := strings.Replace(one, "\r\n", "\r\nConnection: close\r\n", 1)
	twice := "GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nAuthorization: x\r\n\r\n"
	for name, c := range map[string]struct {
		send   string
		before func(m *manual)
		want   string
		unread bool
	}{
		"it goes on":                 {one, nil, "201", false},
		"a longer answer":            {post(strings.Repeat("{}\n", 60), ndjson, ids), nil, "201", false},
		"the client wants it":        {closing, nil, "201 closed", false},
		"and sends more":             {closing + "more", nil, "201 closed", true},
		"drained":                    {one, func(m *manual) { m.server.Drain() }, "201 closed", false},
		"ended":                      {one, func(m *manual) { m.end() }, "201 closed", false},
		"a problem of a whole one":   {twice, nil, "400 closed", false},
		"a problem of half of one":   {one[:len(one)-1] + "x", func(m *manual) { m.server.opts.MaxBody = 1 }, "413 closed", true},
		"a page":                     {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", nil, "200", false},
		"of HEAD":                    {"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", nil, "200", false},
		"nothing that is understood": {"x\r\n", nil, "400 closed", true},
		"what its time is over for":  {"P", func(m *manual) { m.gives("", 1); m.received(0, os.ErrDeadlineExceeded) }, "408 closed", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManual(t, Options{})
			if c.before != nil {
				c.before(m)
			}
			if s := m.gives(c.send, 1000); s != stepWrite {
				t.Fatal(s)
			}
			if got := m.answers(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			ends := strings.HasSuffix(c.want, "closed")
			if m.ended != ends || ends && m.unread != c.unread || m.gone {
				t.Errorf("ended: %t, unread: %t, gone: %t", m.ended, m.unread, m.gone)
			}
			if _, body, _ := strings.Cut(m.wire.out.String(), "\r\n\r\n"); (name == "of HEAD") != (body == "") {
				t.Errorf("%q", body)
			}
			if cap(m.out) > firstRead || m.large != nil || m.request != nil {
				t.Errorf("it keeps %d bytes, %d bytes and %v", cap(m.out), len(m.large), m.request)
			}
		})
	}
}

// An answer that is not taken ends the connection, and nothing more is written or read.
func TestNothingFollowsAnAnswerThatIsNotTaken(t *testing.T) {
	m := newManual(t, Options{})
	if s := m.gives(post(strings.Repeat("{}\n", 1000), ndjson, ids), 100_000); s != stepWrite || len(m.large) == 0 {
		t.Fatal(s, len(m.large))
	}
	m.wire.fails = os.ErrDeadlineExceeded
	m.answers()
	if m.wire.writes != 1 || m.next() != stepEnd || !m.gone || m.unread || m.large != nil {
		t.Errorf("%d writes, gone: %t, unread: %t", m.wire.writes, m.gone, m.unread)
	}
	m = newManual(t, Options{})
	m.gives(post("{}"), 1000)
	m.answers()
	if m.wire.writes != 1 {
		t.Errorf("%d writes of one answer", m.wire.writes)
	}
}

// A body is read where it belongs, and everything else beside it, in buffers of few sizes.
func TestWhereBytesAreRead(t *testing.T) {
	m := newManual(t, Options{})
	body := `{"a":"` + strings.Repeat("x", 9000) + `"}`
	head := strings.TrimSuffix(post(body), body)
	m.gives(head, 100)
	for _, sent := range []int{0, 1, 5000} {
		m.gives(body[len(m.request.arriving):sent], 3000)
		if s := m.gives("", 1); s != stepRead || !m.direct || cap(m.in) != firstRead || m.arrived != sent {
			t.Fatalf("after %d bytes of the body: %d, direct: %t, a buffer of %d, %d have arrived", sent, s, m.direct, cap(m.in), m.arrived)
		}
		r := m.request
		if at := r.arriving[:len(r.arriving)+1]; &at[len(r.arriving)] != &m.space[0] {
			t.Errorf("after %d bytes of the body it is read elsewhere", sent)
		}
	}
	m.gives(body[5000:], 100_000)
	if got := m.answers(); got != "201" || m.log.usages[0] != body {
		t.Errorf("%s", got)
	}
	m.gives("POST /api/usages HTTP/1.1\r\nX: "+strings.Repeat("x", 3000), 5000)
	if cap(m.in) != m.server.opts.MaxHeader {
		t.Errorf("a buffer of %d bytes for a long header", cap(m.in))
	}
	m = newManual(t, Options{})
	one := post("{}")
	m.gives(one[:20], 1000)
	for range 100 { // of what is consumed nothing stays in the buffer
		if s := m.gives(one[20:]+one[:20], 1000); s != stepWrite {
			t.Fatal(s)
		}
		m.answers()
		if s := m.gives("", 1); s != stepRead || string(m.in) != one[:20] || m.from != 0 || cap(m.in) != firstRead {
			t.Fatalf("%d, a buffer of %d bytes with %q, from %d on", s, cap(m.in), m.in, m.from)
		}
	}
}

// A request for which there is no memory is rejected when that is known, in each framing.
func TestARequestWithoutMemoryIsRejected(t *testing.T) {
	body := strings.Repeat(" ", 5000) + "{}"
	for name, text := range map[string]string{"length": post(body), "chunks": chunked(body)} {
		for _, most := range []int{100, 3000, 100_000} {
			m := newManual(t, Options{MaxInFlight: 1})
			m.server.small.take(smallBodies)
			if s := m.gives(text, most); s != stepWrite {
				t.Fatal(s)
			}
			if got := m.answers(); got != "503 closed" || m.log.rejected["http overloaded"] != 1 || !m.unread {
				t.Errorf("%s, %d bytes at once: %s, counted %v", name, most, got, m.log.rejected)
			}
		}
	}
}

// A deadline that has passed is set once, and none where there is none.
func TestADeadlineIsSetOnce(t *testing.T) {
	m := newManual(t, Options{})
	now := time.Now()
	later := m.all.deadline(now.Add(time.Hour))
	m.expire(m.all.deadline(now), now)
	m.enter(stateStoring)
	m.expire(later, now)
	if m.wire.deadline != 0 {
		t.Errorf("%d deadlines are set before any has passed", m.wire.deadline)
	}
	m.enter(stateWriting)
	m.expire(later, now)
	m.expire(later, now)
	if m.wire.deadline != 1 {
		t.Errorf("one that has passed is set %d times", m.wire.deadline)
	}
}

// closable is a connection of which one side can be closed, or can't.
type closable struct {
	wire
	err error
}

func (c *closable) CloseWrite() error { return c.err }

// What a client still sends is read only once it was told that nothing follows.
func TestWhoCantBeToldIsNotListenedTo(t *testing.T) {
	for _, err := range []error{nil, errors.New("closed")} {
		h := newServer(t, newMemoryLog(), Options{})
		w := &closable{wire: wire{script: script{in: bytes.NewReader(make([]byte, 10))}}, err: err}
		c := h.newConn(w)
		c.unread = true
		c.close()
		if read := w.in.Len() == 0; read != (err == nil) {
			t.Errorf("%v: read: %t", err, read)
		}
	}
}

// A certificate makes a client of who has no token, and keeps its connection.
func TestACertificateMakesAClient(t *testing.T) {
	for _, certified := range []bool{false, true} {
		m := newManual(t, Options{})
		if certified {
			m.peers = []*x509.Certificate{{}}
		}
		m.gives(post("[1")[:len(post("[1"))-1], 1000)
		if m.known.Load() != certified || (m.hold.Load() == kept) != certified {
			t.Errorf("certified: %t, known: %t, kept: %d", certified, m.known.Load(), m.hold.Load())
		}
	}
}

// What makes a client wait for 100 Continue changes nothing of its request.
func TestWhoWaitsToContinueIsWhoItIs(t *testing.T) {
	tokens, headers := holder(t, "ada")
	for _, full := range []error{nil, ErrStarting, wal.ErrFull, wal.ErrClosed} {
		m := newManual(t, Options{Policy: auth.Policy{Tokens: tokens}})
		text := post("{}", headers[0], "Expect: 100-continue")
		m.log.refuse = full
		m.gives(text[:len(text)-2], 1000)
		got := m.answers()
		m.log.refuse = nil
		if errors.Is(full, wal.ErrFull) || errors.Is(full, wal.ErrClosed) {
			if got != "503 closed" {
				t.Errorf("%v: %s", full, got)
			}
			continue
		}
		m.gives("{}", 1000)
		if got += " " + m.answers(); got != "100 201" || len(m.log.clients) != 1 || m.log.clients[0] != "ada" {
			t.Errorf("%v: %s, stored for %q", full, got, m.log.clients)
		}
	}
}

// How long requests took is counted from their header on; what is not one takes no time.
func TestHowLongARequestTookIsCounted(t *testing.T) {
	m := newManual(t, Options{})
	m.gives(post("{}"), 1000)
	m.answers()
	m.gives("x\r\n", 1000)
	m.answers()
	if s := m.server.Seconds(); s[2].Count() != 1 || s[4].Count() != 0 || m.server.Requests()[http.StatusBadRequest] != 1 {
		t.Errorf("%+v", s)
	}
}

// A handshake reads so much of a client and no more, until it is over.
func TestAHandshakeReadsNoMoreThanItMay(t *testing.T) {
	l := &handshakeLimit{Conn: &script{in: bytes.NewReader(make([]byte, 100))}, left: 10}
	p := make([]byte, 8)
	for i, want := range []int{8, 2} {
		if n, err := l.Read(p); n != want || err != nil {
			t.Errorf("read %d: %d, %v", i, n, err)
		}
	}
	if n, err := l.Read(p); n != 0 || !errors.Is(err, errLongHandshake) {
		t.Errorf("beyond: %d, %v", n, err)
	}
	l.over = true
	if n, err := l.Read(p); n != 8 || err != nil {
		t.Errorf("once it is over: %d, %v", n, err)
	}
}

// Only who speaks something else than TLS is answered in plaintext.
func TestAHandshakeThatFailsIsNotAnswered(t *testing.T) {
	m := newManual(t, Options{})
	for _, err := range []error{io.EOF, tls.RecordHeaderError{Msg: "within the handshake"}} {
		m.answerPlainHTTP(err)
		if m.wire.writes != 0 || m.unread {
			t.Errorf("%v: %s", err, m.wire.out.String())
		}
	}
	m.answerPlainHTTP(tls.RecordHeaderError{Conn: m.wire})
	if !strings.HasPrefix(m.wire.out.String(), "HTTP/1.1 400 ") || !m.unread || m.state != stateWriting {
		t.Errorf("%s", m.wire.out.String())
	}
}

// A connection that is open is judged by the policy that holds now.
func TestAPolicyHoldsForOpenConnections(t *testing.T) {
	ca := authtest.NewAuthority(t)
	for _, local := range []bool{false, true} {
		m := newManual(t, Options{})
		if local {
			m.raw = &net.UnixConn{}
		}
		m.gives(post("{}"), 1000)
		got := m.answers()
		m.server.SetPolicy(auth.Policy{TLS: ca.Server(t, ca)})
		text := post("{}")
		m.gives(text, len(text)-2)
		got += " " + m.answers()
		if want := map[bool]string{false: "201 401 closed", true: "201 201"}[local]; got != want {
			t.Errorf("local: %t: %s", local, got)
		}
	}
}

// A request leaves the large buffers that it had to others, once.
func TestAReleasedRequestGivesItsBuffersBack(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{})
	for len(h.spareParts)+len(h.spareIDs)+len(h.largeBodies.idle) > 0 {
		select {
		case <-h.spareParts:
		case <-h.spareIDs:
		case <-h.largeBodies.idle:
		}
	}
	for _, coding := range []coding{identity, gzipped} {
		r := &request{coding: coding, parts: make([]part, 0, freeParts+1), ids: make([]wal.ID, 0, freeParts+1), answer: make([]byte, 0, freeBytes+1)}
		var err error
		if r.arriving, err = h.grow(nil, smallBody+1); err != nil {
			t.Fatal(err)
		}
		if r.body = r.arriving; coding != identity {
			if r.body, err = h.grow(nil, smallBody+1); err != nil {
				t.Fatal(err)
			}
		}
		h.release(r)
		want := map[bool]int{true: 1, false: 2}[coding == identity]
		if len(h.spareParts) != 1 || len(h.spareIDs) != 1 || len(h.largeBodies.idle) != want || cap(r.parts)+cap(r.ids)+cap(r.answer)+cap(r.arriving) > 0 {
			t.Fatalf("%d, %d and %d buffers for others; it keeps %+v", len(h.spareParts), len(h.spareIDs), len(h.largeBodies.idle), r)
		}
		<-h.spareParts
		<-h.spareIDs
		for range want {
			<-h.largeBodies.idle
		}
	}
}

// An empty line does not keep a connection open while the server shuts down, nor does
// anything else that comes between two requests.
func TestWhoIsIdleEndsWithTheServer(t *testing.T) {
	m := newManual(t, Options{})
	m.gives(post("{}"), 1000)
	m.answers()
	m.gives("", 1)
	m.all.closing.Store(true)
	m.gives("\r\n", 1000)
	if !m.isLast() {
		t.Error("it goes on after an empty line")
	}
	m = newManual(t, Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	v := visit(t, ln.Addr().String())
	if m.raw, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	defer m.raw.Close()
	v.send("P")
	waitFor(t, func() bool { return unread(m.raw) })
	m.all.closing.Store(true)
	m.gives(post("{}"), 1000)
	m.answers()
	if m.isLast() {
		t.Error("it ends though a request has arrived")
	}
}

// A body for which the kernel has no memory is rejected, and stays what it is.
func TestABodyWithoutAMappingIsRejected(t *testing.T) {
	for name, text := range map[string]string{"length": post(strings.Repeat(" ", 2*smallBody)), "chunks": chunked(strings.Repeat(" ", 2*smallBody))} {
		m := newManual(t, Options{})
		m.server.largeBodies = newMappings(1 << 60) // more than any address space
		if s := m.gives(text, 100_000); s != stepWrite {
			t.Fatal(s)
		}
		if got := m.answers(); got != "503 closed" || m.log.rejected["http overloaded"] != 1 {
			t.Errorf("%s: %s, counted %v", name, got, m.log.rejected)
		}
	}
}
