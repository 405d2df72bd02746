package httpserver

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
)

// expectReset checks that a connection is reset before any answer.
func expectReset(t *testing.T, v *rawClient) {
	t.Helper()
	if n, err := io.Copy(io.Discard, v); n > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes, then: %v, want a reset", n, err)
	}
}

// Strangers are reset at once when the control group has little memory left, on a loop, over
// TLS and during a handshake. Clients never are, and are still served.
func TestStrangersAreResetForTheMemoryOfTheGroup(t *testing.T) {
	t.Parallel() // it waits most of the time
	ca := authtest.NewAuthority(t)
	for name, identity := range map[string]*auth.TLS{"plain": nil, "TLS": ca.Server(t, nil)} {
		t.Run(name, func(t *testing.T) {
			var text syncBuffer
			log := newMemoryLog()
			h, addr := startServer(t, log, Options{Policy: auth.Policy{TLS: identity}, Limits: withoutDeadlines(Limits{}), Logger: slog.New(slog.NewTextHandler(&text, nil))})
			dial := func() *rawClient {
				if identity == nil {
					return dialRaw(t, addr)
				}
				v, err := dialRawTLS(t, addr, ca.Config(nil))
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			expectCreated := func(v *rawClient) {
				t.Helper()
				v.send(post("{}"))
				if status, body := v.readResponse(); status != http.StatusCreated {
					t.Errorf("%d %s", status, body)
				}
			}
			client := dial()
			expectCreated(client)
			var strangers []*rawClient
			for i := range 3 * minDrops {
				var v *rawClient
				switch i % 3 {
				case 0:
					v = dial()
					v.send("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
				case 1:
					v = dial()
					v.send("POST /api")
				case 2:
					v = dialRaw(t, addr)
					v.send("\x16") // the first byte of a handshake, or of no request
				}
				strangers = append(strangers, v)
			}
			waitFor(t, func() bool { return h.Connections() == 1+len(strangers) })
			waitAged()
			h.SetSpareMemory(-1)
			waitFor(t, func() bool { return h.Connections() == 1+len(strangers)-minDrops })
			waitFor(t, func() bool {
				h.SetSpareMemory(-1 << 30)
				return h.Connections() == 1
			})
			if n := h.ClosedForMemory(); n != uint64(len(strangers)) {
				t.Errorf("%d connections were closed for memory, want %d", n, len(strangers))
			}
			for _, v := range strangers {
				raw := *v
				if c, ok := v.Conn.(*tls.Conn); ok {
					raw.Conn = c.NetConn()
				}
				expectReset(t, &raw)
			}
			// A body that had begun is rejected for lack of memory. No answer is counted, and no
			// client is blamed for the end of its handshake.
			log.mu.Lock()
			if len(log.rejected) != 1 || log.rejected["http "+CodeOverloaded] != len(strangers)/3 {
				t.Errorf("rejected %v, want %d as overloaded", log.rejected, len(strangers)/3)
			}
			log.mu.Unlock()
			for status, n := range h.Requests() {
				if want := map[int]uint64{http.StatusCreated: 1}[status]; n != want {
					t.Errorf("%d answers of %d, want %d", n, status, want)
				}
			}
			for reason, n := range h.HandshakeFailures() {
				if n > 0 {
					t.Errorf("%d handshakes failed: %s", n, reason)
				}
			}
			expectCreated(client)
			waitFor(t, func() bool { h.SetSpareMemory(-1); return h.conns.spareAccepts() >= 1 })
			expectCreated(dial())
			waitFor(t, func() bool {
				return strings.Contains(text.String(), "little memory is left of the control group's limit")
			})
		})
	}
}

// While strangers hold the memory of the group, no connection is accepted, since it could not
// be served for long.
func TestNoConnectionIsAcceptedWhileStrangersHoldTheMemory(t *testing.T) {
	t.Parallel() // it waits most of the time
	h, addr := startServer(t, newMemoryLog(), Options{Limits: withoutDeadlines(Limits{})})
	stranger := dialRaw(t, addr)
	stranger.send("POST /api")
	waitFor(t, func() bool { return h.Connections() == 1 })
	waitAged()
	dropped := h.conns.setSpare(-1, h.opts.maxBuffered())
	if n := h.conns.spareAccepts(); len(dropped) != 1 || n > 0 {
		t.Fatalf("%d strangers are dropped, and %d connections may be accepted before they are closed", len(dropped), n)
	}
	dropped[0].reset()
	expectReset(t, stranger)
	waitFor(t, func() bool { h.SetSpareMemory(-1); return h.conns.spareAccepts() > 0 })
}

func (s *connections) spareAccepts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spare.accepts
}

// A stranger that is dropped while a worker owns its connection is reset once the worker has
// ended.
func TestADroppedStrangerLeavesItsWorkerFirst(t *testing.T) {
	t.Parallel() // it waits most of the time
	h, addr := startServer(t, newMemoryLog(), Options{Limits: withoutDeadlines(Limits{})})
	block, blocked := make(chan struct{}), make(chan struct{}, maxWorkers)
	for range maxWorkers {
		h.workers.do(func() { blocked <- struct{}{}; <-block })
	}
	for range maxWorkers {
		<-blocked
	}
	v := dialRaw(t, addr)
	v.send(post(strings.Repeat("{}\n", 5000), ndjsonHeader))
	waitFor(t, func() bool {
		h.workers.mu.Lock()
		defer h.workers.mu.Unlock()
		return len(h.workers.queue) == 1
	})
	waitAged()
	h.SetSpareMemory(-1)
	if n := h.ClosedForMemory(); n != 1 || h.Connections() != 1 {
		t.Errorf("%d were dropped, %d are open, want 1 and 1", n, h.Connections())
	}
	close(block)
	expectReset(t, v)
	waitFor(t, func() bool { return h.Connections() == 0 })
	h.conns.mu.Lock()
	defer h.conns.mu.Unlock()
	if h.conns.dropping != 0 {
		t.Errorf("%d are being dropped", h.conns.dropping)
	}
}

// As many connections may be accepted as the spare memory suffices for. Once in minAcceptTime
// it is at least minAccepts, unless there is no spare memory left and strangers hold it.
func TestAFewConnectionsAreAcceptedWithoutSpareMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &newServer(t, newMemoryLog(), Options{}).conns
		const each = 1000
		expect := func(bytes int64, want int) (dropped []*conn) {
			t.Helper()
			dropped = s.setSpare(bytes, each)
			if n := s.spareAccepts(); n != want {
				t.Errorf("%d spare bytes: %d connections may be accepted, want %d", bytes, n, want)
			}
			return dropped
		}
		expect(-1, minAccepts)
		expect(-1, 0)
		<-time.After(minAcceptTime - 1)
		expect(0, 0)
		<-time.After(1)
		expect(9*each, 9)
		expect(minAccepts*each, minAccepts)
		expect(each, minAccepts)
		expect(each, 1)

		<-time.After(minAcceptTime)
		stranger := s.add(&deadlineConn{})
		defer s.sweepTimer.Stop()
		<-time.After(connMinTime - 1)
		if dropped := expect(-1, 0); len(dropped) > 0 {
			t.Error("a stranger was dropped before connMinTime")
		}
		expect(0, minAccepts)
		<-time.After(minAcceptTime)
		if dropped := expect(-1, 0); len(dropped) != 1 {
			t.Errorf("%d strangers were dropped, want 1", len(dropped))
		}
		expect(-1, 0) // it is not closed yet
		s.remove(stranger)
		expect(-1, minAccepts)

		s.add(&deadlineConn{}).markClient()
		<-time.After(minAcceptTime)
		if dropped := expect(-1, minAccepts); len(dropped) > 0 {
			t.Error("a client was dropped")
		}
	})
}

// dropNow drops a connection, as SetSpareMemory does with a stranger.
func (c *conn) dropNow() {
	c.hold.Store(holdTaken)
	c.drop()
	c.reset()
}

// expectNothingInUse checks that all memory of requests is returned.
func (l *loop) expectNothingInUse(t *testing.T) {
	t.Helper()
	h := l.server
	if l.bytesInUse() != 0 || h.inFlight.free != h.opts.MaxInFlight || h.small.free != smallBodiesBytes || h.storing.free != h.opts.maxStoringBytes() {
		t.Errorf("%d bytes of the loop are in use, and of the budgets %d, %d and %d",
			l.bytesInUse(), h.opts.MaxInFlight-h.inFlight.free, smallBodiesBytes-h.small.free, h.opts.maxStoringBytes()-h.storing.free)
	}
}

// The loop does not touch a dropped connection that a worker owns. Otherwise another client
// could get the request's memory while the worker uses it.
func TestALoopLeavesADroppedConnectionToItsWorker(t *testing.T) {
	log := newMemoryLog()
	l := newManualLoop(t, log, Options{})
	block, blocked := make(chan struct{}), make(chan struct{}, maxWorkers)
	for range maxWorkers {
		l.server.workers.do(func() { blocked <- struct{}{}; <-block })
	}
	for range maxWorkers {
		<-blocked
	}
	c, _ := l.connectPeer(t, post(strings.Repeat("{}\n", 5000), ndjsonHeader))
	l.runTurn(t)
	if c.ownedByLoop {
		t.Fatal("no worker owns the connection")
	}
	c.dropNow()
	if l.runTurn(t); c.closed || c.request == nil || len(log.rejected) > 0 {
		t.Fatalf("the loop closed it, or released its request: %t, %t; rejected %v", c.closed, c.request == nil, log.rejected)
	}
	close(block)
	waitFor(t, func() bool { l.runTurn(t); return c.closed })
	if n := log.rejected["http "+CodeOverloaded]; n != 5000 || len(log.usages) > 0 {
		t.Errorf("rejected %v, stored %d", log.rejected, len(log.usages))
	}
	l.expectNothingInUse(t)
}

// A dropped connection leaves no memory in use, and the request that it began is counted.
func TestADroppedConnectionLeavesNoMemoryInUse(t *testing.T) {
	for name, row := range map[string]struct {
		text     string
		rejected int
	}{
		"header":     {"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nX: ", 0},
		"large body": {strings.TrimSuffix(post(strings.Repeat(" ", 100_000)), "  "), 1},
		"small body": {strings.TrimSuffix(post("{}"), "}"), 1},
		"chunks":     {"POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n" + strings.Repeat(" ", 0x7fff), 1},
	} {
		t.Run(name, func(t *testing.T) {
			log := newMemoryLog()
			l := newManualLoop(t, log, Options{})
			c, _ := l.connectPeer(t, row.text)
			l.runTurn(t)
			if l.bytesInUse() == 0 {
				t.Fatal("nothing is in use before")
			}
			c.dropNow()
			if l.runTurn(t); !c.closed || c.request != nil || log.rejected["http "+CodeOverloaded] != row.rejected || len(log.rejected) > row.rejected {
				t.Errorf("closed: %t, request: %t, rejected %v, want %d", c.closed, c.request != nil, log.rejected, row.rejected)
			}
			l.expectNothingInUse(t)
		})
	}
}

// A request whose client has left before its body is not counted as rejected. Only a dropped
// one is.
func TestAClientThatLeavesBeforeItsBodyIsNotRejected(t *testing.T) {
	log := newMemoryLog()
	h := newServer(t, log, Options{})
	text := post("{}", "Expect: 100-continue")
	c := h.newConn(&brokenPipe{scriptedConn{in: bytes.NewReader([]byte(text[:len(text)-2]))}})
	c.serve()
	if !c.unwritable || c.request != nil || len(log.rejected) > 0 {
		t.Errorf("unwritable: %t, request: %t, rejected %v", c.unwritable, c.request != nil, log.rejected)
	}
}

// brokenPipe is a connection whose client does not read any more.
type brokenPipe struct{ scriptedConn }

func (*brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// A listener waits only without spare memory, and not once it is closed.
func TestAListenerWaitsOnlyWithoutSpareMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newServer(t, newMemoryLog(), Options{})
		s := &h.conns
		var closed atomic.Bool
		expect := func(wantAccept bool, wantDelays uint64, wantAccepts int) {
			t.Helper()
			if accept := s.awaitDescriptor(&closed); accept != wantAccept || h.AcceptsDelayed() != wantDelays || len(h.SpareWanted()) != int(wantDelays) {
				t.Errorf("accept: %t, want %t; %d delays, want %d; spare memory wanted: %d", accept, wantAccept, h.AcceptsDelayed(), wantDelays, len(h.SpareWanted()))
			}
			if n := s.spareAccepts(); n != wantAccepts {
				t.Errorf("%d more connections may be accepted, want %d", n, wantAccepts)
			}
		}
		expect(true, 0, -1)
		s.setSpare(2, 1)
		s.setSpare(2, 1)
		expect(true, 0, 1)
		expect(true, 0, 0)
		h.UnlimitMemory()
		expect(true, 0, -1)
		s.setSpare(0, 1)
		s.setSpare(0, 1)
		go func() {
			synctest.Wait()
			s.setSpare(1, 1)
		}()
		expect(true, 1, 0)
		closed.Store(true)
		<-h.SpareWanted()
		s.room.acceptsDelayed.Store(0)
		expect(false, 1, -1)
	})
}

// A connection that a loop drops leaves no memory in use, whatever it waits for.
func TestADropInAnyStateLeavesNoMemoryInUse(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	h := l.server
	large := post(strings.Repeat("{}\n", 5000), ndjsonHeader, "Prefer: return=representation", "Idempotency-Key: a")
	stored, p := l.connectPeer(t, large)
	waitFor(t, func() bool {
		l.runTurn(t)
		p.received()
		return stored.waitingFor == stepRead
	})
	for name, row := range map[string]struct {
		send string
		want step // what the connection waits for when it is dropped
	}{
		"a part of a header":     {"POST /api", stepRead},
		"a part of a small body": {strings.TrimSuffix(post("{}"), "}"), stepRead},
		"a part of a large body": {large[:len(large)-1], stepRead},
		"responses to be read":   {strings.Repeat("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 500), stepWrite},
		"a large response":       {large, stepPrepare}, // the request is repeated
	} {
		c, _ := l.acceptPeer(t, row.send)
		watchSendBuffer(t, c.fd) // it makes the buffer small
		l.resume(c, reasonNew)
		if row.want != stepPrepare {
			l.runTurn(t)
		}
		if c.waitingFor != row.want || l.bytesInUse() == 0 {
			t.Errorf("%s: the connection waits for step %d, with %d bytes in use", name, c.waitingFor, l.bytesInUse())
		}
		c.hold.Store(holdTaken)
		c.drop()
		c.reset()
		waitFor(t, func() bool { l.runTurn(t); return c.closed })
		if n := h.opts.MaxInFlight - h.inFlight.available(); c.request != nil || l.bytesInUse() != 0 || n != 0 || h.small.available() != smallBodiesBytes {
			t.Errorf("%s: request %t, %d bytes in use, %d in flight, %d left for small bodies", name, c.request != nil, l.bytesInUse(), n, h.small.available())
		}
	}
}

// No more connections are accepted than the memory suffices for. The others are not lost:
// they wait.
func TestConnectionsWaitForTheMemoryOfTheGroup(t *testing.T) {
	t.Parallel() // it waits most of the time
	h, addr := startServer(t, newMemoryLog(), Options{Limits: withoutDeadlines(Limits{})})
	h.SetSpareMemory(0)
	const all = 3 * minAccepts
	var waiting []*rawClient
	for range all {
		v := dialRaw(t, addr)
		v.send(post("{}"))
		waiting = append(waiting, v)
	}
	<-h.SpareWanted()
	// The listener was waiting in accept(2) before the memory was known.
	waitFor(t, func() bool { return h.Connections() == minAccepts || h.Connections() == minAccepts+1 })
	h.SetSpareMemory(minAccepts * h.opts.maxBuffered())
	waitFor(t, func() bool { return h.Connections() >= 2*minAccepts && h.Connections() <= 2*minAccepts+1 })
	h.UnlimitMemory()
	for _, v := range waiting {
		if status, body := v.readResponse(); status != http.StatusCreated {
			t.Errorf("%d %s", status, body)
		}
	}
	if h.AcceptsDelayed() == 0 {
		t.Error("no delay was counted")
	}
}

// The kernel keeps nothing of an answer that its client does not read, once the connection
// is closed.
func TestAnAnswerThatIsNotReadIsDropped(t *testing.T) {
	t.Parallel() // it waits most of the time
	h, addr := startServer(t, newMemoryLog(), Options{Limits: Limits{AnswerTimeout: 300 * time.Millisecond}})
	v := dialRaw(t, addr)
	_ = v.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	v.send(post(strings.Repeat("{}\n", 20_000), ndjsonHeader, "Prefer: return=representation"))
	waitFor(t, func() bool { return h.Requests()[http.StatusCreated] == 1 && h.Connections() == 0 })
	if _, err := io.Copy(io.Discard, v); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

// The kernel keeps no unread bytes of a closed connection whose client can't be written to, or
// that made room.
func TestUnreadBytesOfAClosedConnectionAreDropped(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	for name, row := range map[string]struct {
		unread     int
		unwritable bool
		hold       int32
		want       bool
	}{
		"unwritable":            {100_000, true, holdFree, true},
		"cut off":               {100_000, false, holdTaken, true},
		"cut off, nothing left": {0, false, holdTaken, false},
		"answered":              {100_000, false, holdFree, false},
	} {
		for _, driver := range []string{"loop", "goroutine"} {
			c, _ := l.acceptPeer(t, "")
			fd := c.fd
			if driver == "goroutine" {
				c.loop, c.socket.conn = nil, nil
			}
			same, err := unix.Dup(fd) // it shows the option after fd was closed
			if err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Write(fd, make([]byte, row.unread)); n < row.unread {
				t.Fatal(n, err)
			}
			c.unwritable = row.unwritable
			c.hold.Store(row.hold)
			if driver == "loop" {
				l.close(c)
			} else {
				c.close()
				c.closed = true // the cleanup does not close it again
			}
			linger, err := unix.GetsockoptLinger(same, unix.SOL_SOCKET, unix.SO_LINGER)
			if err != nil || linger.Onoff != 0 != row.want {
				t.Errorf("%s, %s: reset on close: %+v, %v, want %t", name, driver, linger, err, row.want)
			}
			_ = unix.Close(same)
		}
	}
}
