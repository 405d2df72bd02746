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

// manualConn is a connection that a test drives.
type manualConn struct {
	*conn
	t    *testing.T
	wire *wire
	log  *memoryLog
}

// wire is a connection on which the test performs the reads.
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

// feed drives the connection with text, in reads of at most maxRead bytes, and returns the
// step that it needs next.
func (m *manualConn) feed(text string, maxRead int) step {
	m.t.Helper()
	for {
		switch s := m.next(); s {
		case stepRead:
			if m.readSpace == nil {
				m.makeReadSpace()
			}
			if len(m.readSpace) == 0 {
				m.t.Fatal("the read buffer is empty")
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

// writeStatuses writes the output, and returns the statuses in it.
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

// The effect of a read error depends on the state, on whether the deadline has passed, and on
// whether the connection was cut off or is the last one.
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
				t.Errorf("rejected %v, want one %q only in the state body", m.log.rejected, reason)
			}
		})
	}
}

// The rows contain which responses end the connection, and after which of them the client
// may still be sending.
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
		"keep-alive":                         {one, nil, "201", false},
		"a longer response":                  {post(strings.Repeat("{}\n", 60), ndjsonHeader, idsHeader), nil, "201", false},
		"Connection: close":                  {closing, nil, "201 closed", false},
		"Connection: close, and more":        {closing + "more", nil, "201 closed", true},
		"drained":                            {one, func(m *manualConn) { m.server.Drain() }, "201 closed", false},
		"ended":                              {one, func(m *manualConn) { m.end() }, "201 closed", false},
		"a rejection of a complete request":  {twice, nil, "400 closed", false},
		"a rejection of a part of a request": {one[:len(one)-1] + "x", func(m *manualConn) { m.server.opts.MaxBody = 1 }, "413 closed", true},
		"a page":                             {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", nil, "200", false},
		"HEAD":                               {"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", nil, "200", false},
		"not HTTP":                           {"x\r\n", nil, "400 closed", true},
		"a timeout":                          {"P", func(m *manualConn) { m.feed("", 1); m.received(0, os.ErrDeadlineExceeded) }, "408 closed", true},
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
			if _, body, _ := strings.Cut(m.wire.out.String(), "\r\n\r\n"); (name == "HEAD") != (body == "") {
				t.Errorf("body %q: only HEAD has none", body)
			}
			if cap(m.out) > firstReadBytes || m.largeBody != nil || m.request != nil {
				t.Errorf("the connection keeps buffers of %d and %d bytes and the request %v", cap(m.out), len(m.largeBody), m.request)
			}
		})
	}
}

// After a failed write nothing more is written or read, and the connection ends.
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
		t.Errorf("%d writes of one response", m.wire.writes)
	}
}

// A passed deadline is set on the socket once. A state without a deadline sets none.
func TestAPassedDeadlineIsSetOnce(t *testing.T) {
	m := newManualConn(t, Options{})
	now := time.Now()
	later := m.registry.deadline(now.Add(time.Hour))
	m.expire(m.registry.deadline(now), now)
	m.enter(stateStoring)
	m.expire(later, now)
	if m.wire.deadlinesSet != 0 {
		t.Errorf("%d deadlines were set before one has passed", m.wire.deadlinesSet)
	}
	m.enter(stateWriting)
	m.expire(later, now)
	m.expire(later, now)
	if m.wire.deadlinesSet != 1 {
		t.Errorf("a passed deadline was set %d times, want once", m.wire.deadlinesSet)
	}
}

// Storing has no deadline, and the deadline of a body counts from its beginning.
func TestEachStateStartsAnew(t *testing.T) {
	m := newManualConn(t, Options{})
	for range 2 {
		text := post("{}")
		m.feed(text[:len(text)-2], 1000)
		if m.state != stateBody || m.deadline == 0 || m.bodyReceived != 0 {
			t.Errorf("%s until %d, %d bytes", stateNames[m.state], m.deadline, m.bodyReceived)
		}
		if m.next() != stepRead {
			t.Fatal("the connection does not read its body")
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

// halfCloser is a connection whose CloseWrite returns err.
type halfCloser struct {
	wire
	err error
}

func (c *halfCloser) CloseWrite() error { return c.err }

// Further bytes of a client are read only after CloseWrite has succeeded.
func TestLingeringNeedsCloseWrite(t *testing.T) {
	for _, err := range []error{nil, errors.New("closed")} {
		h := newServer(t, newMemoryLog(), Options{})
		w := &halfCloser{wire: wire{scriptedConn: scriptedConn{in: bytes.NewReader(make([]byte, 10))}}, err: err}
		c := h.newConn(w)
		c.clientMaySend = true
		c.close()
		if read := w.in.Len() == 0; read != (err == nil) {
			t.Errorf("CloseWrite returns %v: the rest was read: %t", err, read)
		}
	}
}

// During shutdown an empty line does not keep an idle connection open, but a request that
// has arrived does.
func TestIdleConnectionsEndAtShutdown(t *testing.T) {
	m := newManualConn(t, Options{})
	m.feed(post("{}"), 1000)
	m.writeStatuses()
	m.feed("", 1)
	m.registry.shuttingDown.Store(true)
	m.feed("\r\n", 1000)
	if !m.isLast() {
		t.Error("an empty line keeps the connection open")
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
		t.Error("the connection ends although a request has arrived")
	}
}
