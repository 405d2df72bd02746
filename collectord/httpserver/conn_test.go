package httpserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// manual is a connection that a test drives by hand.

type manualConn struct {
	*conn
	t    *testing.T
	wire *wire
	log  *memoryLog
}

// wire is a connection whose reads the test makes itself.

type wire struct {
	scriptedConn
	writeErr     error // of writes
	writes       int
	deadlinesSet int // how often one was set
}

func (w *wire) Write(p []byte) (int, error) {
	w.writes++
	if w.writeErr != nil {
		return 0, w.writeErr
	}
	return w.scriptedConn.Write(p)
}

func (w *wire) SetDeadline(time.Time) error { w.deadlinesSet++; return nil }

func newManualConn(t *testing.T, o Options) *manualConn {
	t.Helper()
	log := newMemoryLog()
	h := newServer(t, log, o)
	w := &wire{scriptedConn: scriptedConn{in: bytes.NewReader(nil)}}
	m := &manualConn{conn: h.newConn(w), t: t, wire: w, log: log}
	m.enter(stateOpening)
	return m
}

// gives drives the connection with text as far as that goes, in reads of at most most

// bytes, and returns what it needs then.

func (m *manualConn) feed(text string, maxRead int) step {
	m.t.Helper()
	for {
		switch s := m.next(); s {
		case stepRead:
			if m.readSpace == nil {
				m.makeReadSpace()
			}
			if len(m.readSpace) == 0 {
				m.t.Fatal("there is no room to read into")
			}
			n := copy(m.readSpace, text[:min(len(text), maxRead)])
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

func (m *manualConn) writeStatuses() (all string) {
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

func TestReadErrorsByState(t *testing.T) {
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
			m := newManualConn(t, Options{})
			if m.feed(sent[c.in], 1000) == stepWrite {
				m.writeStatuses()
				m.feed("", 1)
			}
			if m.state != c.in {
				t.Fatal(stateNames[m.state])
			}
			if c.cut {
				m.hold.Store(holdTaken)
			}
			m.last = c.last
			m.received(0, c.err)
			got := ""
			if m.next() == stepWrite {
				got = m.writeStatuses()
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

func TestWhichResponsesEndTheConnection(t *testing.T) {
	one := post(`{"a":1}`)
	closing := strings.Replace(one, "\r\n", "\r\nConnection: close\r\n", 1)
	twice := "GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nAuthorization: x\r\n\r\n"
	for name, c := range map[string]struct {
		send   string
		before func(m *manualConn)
		want   string
		unread bool
	}{
		"it goes on":                 {one, nil, "201", false},
		"a longer answer":            {post(strings.Repeat("{}\n", 60), ndjsonHeader, idsHeader), nil, "201", false},
		"the client wants it":        {closing, nil, "201 closed", false},
		"and sends more":             {closing + "more", nil, "201 closed", true},
		"drained":                    {one, func(m *manualConn) { m.server.Drain() }, "201 closed", false},
		"ended":                      {one, func(m *manualConn) { m.end() }, "201 closed", false},
		"a problem of a whole one":   {twice, nil, "400 closed", false},
		"a problem of half of one":   {one[:len(one)-1] + "x", func(m *manualConn) { m.server.opts.MaxBody = 1 }, "413 closed", true},
		"a page":                     {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", nil, "200", false},
		"of HEAD":                    {"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", nil, "200", false},
		"nothing that is understood": {"x\r\n", nil, "400 closed", true},
		"what its time is over for":  {"P", func(m *manualConn) { m.feed("", 1); m.received(0, os.ErrDeadlineExceeded) }, "408 closed", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManualConn(t, Options{})
			if c.before != nil {
				c.before(m)
			}
			if s := m.feed(c.send, 1000); s != stepWrite {
				t.Fatal(s)
			}
			if got := m.writeStatuses(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			ends := strings.HasSuffix(c.want, "closed")
			if m.mustClose != ends || ends && m.clientMaySend != c.unread || m.unwritable {
				t.Errorf("ended: %t, unread: %t, gone: %t", m.mustClose, m.clientMaySend, m.unwritable)
			}
			if _, body, _ := strings.Cut(m.wire.out.String(), "\r\n\r\n"); (name == "of HEAD") != (body == "") {
				t.Errorf("%q", body)
			}
			if cap(m.out) > firstReadBytes || m.largeBody != nil || m.request != nil {
				t.Errorf("it keeps %d bytes, %d bytes and %v", cap(m.out), len(m.largeBody), m.request)
			}
		})
	}
}

// An answer that is not taken ends the connection, and nothing more is written or read.

func TestAFailedWriteEndsTheConnection(t *testing.T) {
	m := newManualConn(t, Options{})
	if s := m.feed(post(strings.Repeat("{}\n", 1000), ndjsonHeader, idsHeader), 100_000); s != stepWrite || len(m.largeBody) == 0 {
		t.Fatal(s, len(m.largeBody))
	}
	m.wire.writeErr = os.ErrDeadlineExceeded
	m.writeStatuses()
	if m.wire.writes != 1 || m.next() != stepEnd || !m.unwritable || m.clientMaySend || m.largeBody != nil {
		t.Errorf("%d writes, gone: %t, unread: %t", m.wire.writes, m.unwritable, m.clientMaySend)
	}
	m = newManualConn(t, Options{})
	m.feed(post("{}"), 1000)
	m.writeStatuses()
	if m.wire.writes != 1 {
		t.Errorf("%d writes of one answer", m.wire.writes)
	}
}

// A body is read where it belongs, and everything else beside it, in buffers of few sizes.

// A request for which there is no memory is rejected when that is known, in each framing.

// A deadline that has passed is set once, and none where there is none.

func TestAPassedDeadlineIsSetOnce(t *testing.T) {
	m := newManualConn(t, Options{})
	now := time.Now()
	later := m.registry.deadline(now.Add(time.Hour))
	m.expire(m.registry.deadline(now), now)
	m.enter(stateStoring)
	m.expire(later, now)
	if m.wire.deadlinesSet != 0 {
		t.Errorf("%d deadlines are set before any has passed", m.wire.deadlinesSet)
	}
	m.enter(stateWriting)
	m.expire(later, now)
	m.expire(later, now)
	if m.wire.deadlinesSet != 1 {
		t.Errorf("one that has passed is set %d times", m.wire.deadlinesSet)
	}
}

// Nothing is expected of a client while its usages are stored, and each body begins anew.
func TestEachStateStartsAnew(t *testing.T) {
	m := newManualConn(t, Options{})
	for range 2 {
		text := post("{}")
		m.feed(text[:len(text)-2], 1000)
		if m.state != stateBody || m.deadline == 0 || m.bodyReceived != 0 {
			t.Errorf("%s until %d, %d bytes", stateNames[m.state], m.deadline, m.bodyReceived)
		}
		if m.next() != stepRead {
			t.Fatal("nothing is read")
		}
		copy(m.readSpace, "{}")
		m.received(2, nil)
		if s := m.next(); s != stepPrepare || m.state != stateStoring || m.deadline != 0 {
			t.Errorf("step %d, %s until %d", s, stateNames[m.state], m.deadline)
		}
		m.prepare()
		m.feed("", 1)
		m.writeStatuses()
	}
}

// closable is a connection of which one side can be closed, or can't.

type halfCloser struct {
	wire
	err error
}

func (c *halfCloser) CloseWrite() error { return c.err }

// What a client still sends is read only once it was told that nothing follows.

func TestLingeringNeedsCloseWrite(t *testing.T) {
	for _, err := range []error{nil, errors.New("closed")} {
		h := newServer(t, newMemoryLog(), Options{})
		w := &halfCloser{wire: wire{scriptedConn: scriptedConn{in: bytes.NewReader(make([]byte, 10))}}, err: err}
		c := h.newConn(w)
		c.clientMaySend = true
		c.close()
		if read := w.in.Len() == 0; read != (err == nil) {
			t.Errorf("%v: read: %t", err, read)
		}
	}
}

// A certificate makes a client of who has no token, and keeps its connection.

// What makes a client wait for 100 Continue changes nothing of its request.

// How long requests took is counted from their header on; what is not one takes no time.

// A handshake reads so much of a client and no more, until it is over.

// Only who speaks something else than TLS is answered in plaintext.

// A connection that is open is judged by the policy that holds now.

// A request leaves the large buffers that it had to others, once.

// An empty line does not keep a connection open while the server shuts down, nor does

// anything else that comes between two requests.

func TestIdleConnectionsEndAtShutdown(t *testing.T) {
	m := newManualConn(t, Options{})
	m.feed(post("{}"), 1000)
	m.writeStatuses()
	m.feed("", 1)
	m.registry.shuttingDown.Store(true)
	m.feed("\r\n", 1000)
	if !m.isLast() {
		t.Error("it goes on after an empty line")
	}
	m = newManualConn(t, Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	v := dialRaw(t, ln.Addr().String())
	if m.raw, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	defer m.raw.Close()
	v.send("P")
	waitFor(t, func() bool { return hasUnread(m.raw) })
	m.registry.shuttingDown.Store(true)
	m.feed(post("{}"), 1000)
	m.writeStatuses()
	if m.isLast() {
		t.Error("it ends though a request has arrived")
	}
}

// A body for which the kernel has no memory is rejected, and stays what it is.
