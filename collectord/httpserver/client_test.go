package httpserver

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
	"collectord/wal"
)

func TestACertificateMakesAClient(t *testing.T) {
	for _, certified := range []bool{false, true} {
		m := newManualConn(t, Options{})
		if certified {
			m.peers = []*x509.Certificate{{}}
		}
		m.feed(post("[1")[:len(post("[1"))-1], 1000)
		if m.isClient.Load() != certified || (m.hold.Load() == holdKept) != certified {
			t.Errorf("certified: %t, known: %t, kept: %d", certified, m.isClient.Load(), m.hold.Load())
		}
	}
}

func TestExpectContinueKeepsTheClient(t *testing.T) {
	tokens, headers := newTokens(t, "ada")
	for _, full := range []error{nil, ErrStarting, wal.ErrFull, wal.ErrClosed} {
		m := newManualConn(t, Options{Policy: auth.Policy{Tokens: tokens}})
		text := post("{}", headers[0], "Expect: 100-continue")
		m.log.appendErr = full
		m.feed(text[:len(text)-2], 1000)
		got := m.writeStatuses()
		m.log.appendErr = nil
		if errors.Is(full, wal.ErrFull) || errors.Is(full, wal.ErrClosed) {
			if got != "503 closed" {
				t.Errorf("%v: %s", full, got)
			}
			continue
		}
		m.feed("{}", 1000)
		if got += " " + m.writeStatuses(); got != "100 201" || len(m.log.clients) != 1 || m.log.clients[0] != "ada" {
			t.Errorf("%v: %s, stored for %q", full, got, m.log.clients)
		}
	}
}

func TestRequestLatencyIsCounted(t *testing.T) {
	m := newManualConn(t, Options{})
	m.feed(post("{}"), 1000)
	m.writeStatuses()
	m.feed("x\r\n", 1000)
	m.writeStatuses()
	if s := m.server.Latencies(); s[2].Count() != 1 || s[4].Count() != 0 || m.server.Requests()[http.StatusBadRequest] != 1 {
		t.Errorf("want one latency of class 2 and none of class 4: %+v", s)
	}
}

func TestAHandshakeReadsAtMostItsLimit(t *testing.T) {
	l := &handshakeLimit{Conn: &scriptedConn{in: bytes.NewReader(make([]byte, 100))}, bytesLeft: 10}
	p := make([]byte, 8)
	for i, want := range []int{8, 2} {
		if n, err := l.Read(p); n != want || err != nil {
			t.Errorf("read %d: %d, %v", i, n, err)
		}
	}
	if n, err := l.Read(p); n != 0 || !errors.Is(err, errLongHandshake) {
		t.Errorf("beyond the limit: %d, %v", n, err)
	}
	l.done = true
	if n, err := l.Read(p); n != 8 || err != nil {
		t.Errorf("after the handshake: %d, %v", n, err)
	}
}

func TestAFailedHandshakeIsAnsweredOnlyIfItIsPlainHTTP(t *testing.T) {
	m := newManualConn(t, Options{})
	for _, err := range []error{io.EOF, tls.RecordHeaderError{Msg: "within the handshake"}} {
		m.answerPlainHTTP(err)
		if m.wire.writes != 0 || m.clientMaySend {
			t.Errorf("%v: %s", err, m.wire.out.String())
		}
	}
	before := m.deadline
	m.answerPlainHTTP(tls.RecordHeaderError{Conn: m.wire})
	if !strings.HasPrefix(m.wire.out.String(), "HTTP/1.1 400 ") || !m.clientMaySend || m.state != stateWriting || m.deadline <= before {
		t.Errorf("%s until %d: %s", stateNames[m.state], m.deadline, m.wire.out.String())
	}
}

func TestANewPolicyAppliesToOpenConnections(t *testing.T) {
	ca := authtest.NewAuthority(t)
	for _, local := range []bool{false, true} {
		m := newManualConn(t, Options{})
		if local {
			m.raw = &socket{listener: &net.UnixAddr{}, fd: -1}
		}
		m.feed(post("{}"), 1000)
		got := m.writeStatuses()
		m.server.SetPolicy(auth.Policy{TLS: ca.Server(t, ca)})
		text := post("{}")
		m.feed(text, len(text)-2)
		got += " " + m.writeStatuses()
		if want := map[bool]string{false: "201 401 closed", true: "201 201"}[local]; got != want {
			t.Errorf("local: %t: %s", local, got)
		}
	}
}
