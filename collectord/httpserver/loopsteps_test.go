package httpserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/epoll"
	"collectord/wal"
)

// newManualLoop returns a loop whose turns the test runs.
func newManualLoop(t *testing.T, log Log, o Options) *loop {
	t.Helper()
	h := newServer(t, log, o)
	h.conns.epoch = h.conns.epoch.Add(-time.Hour) // as if the server had run for an hour
	l, err := newLoop(h, loopsBudgetBytes)
	if err != nil {
		t.Fatal(err)
	}
	l.relief.takeOver = func() {} // no goroutine takes it over from the test, however slow the machine is
	t.Cleanup(func() { _ = l.poller.Close() })
	return l
}

// peer is the client's end of a connection.
type peer struct {
	t  *testing.T
	fd int
}

// connectPeer makes a loop drive a new connection on which text has arrived.
func (l *loop) connectPeer(t *testing.T, text string) (*conn, *peer) {
	t.Helper()
	c, p := l.acceptPeer(t, text)
	l.now = time.Now()
	l.resume(c, reasonNew)
	return c, p
}

// acceptPeer returns a new connection on which text has arrived.
func (l *loop) acceptPeer(t *testing.T, text string) (*conn, *peer) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t, fds[1]}
	t.Cleanup(func() { _ = unix.Close(p.fd) })
	s := &socket{listener: &net.UnixAddr{}, fd: fds[0]}
	c := l.server.newConn(s)
	s.joinLoop(c, l)
	p.send(text)
	t.Cleanup(func() {
		if !c.closed {
			l.close(c)
		}
	})
	return c, p
}

func (p *peer) send(text string) {
	p.t.Helper()
	if n, err := unix.Write(p.fd, []byte(text)); n < len(text) && text != "" {
		p.t.Fatal(n, err)
	}
}

// received returns what has arrived since the last call.
func (p *peer) received() string {
	b := make([]byte, 1<<20)
	n, _ := unix.Read(p.fd, b)
	return string(b[:max(n, 0)])
}

// ended reports whether the connection is closed and all its bytes were read.
func (p *peer) ended() bool {
	n, err := unix.Read(p.fd, make([]byte, 1))
	return n == 0 && err == nil
}

// runTurn handles everything that is ready.
func (l *loop) runTurn(t *testing.T) {
	t.Helper()
	for n := 1; n > 0; {
		l.now = time.Now()
		ready, err := l.poller.Poll(l.handleEvent)
		if err != nil {
			t.Fatal(err)
		}
		n = ready + l.resumeCommitted() + l.resumePosted()
	}
	l.commit()
}

// An event changes only the state of its own connection, and continues it only if it waits
// for that event.
func TestAnEventContinuesOnlyAConnectionThatWaitsForIt(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	c, p := l.connectPeer(t, "")
	l.handleEvent(epoll.Event{FD: len(l.conns) + 1000, Readable: true}) // a connection that was closed in this turn
	l.handleEvent(epoll.Event{FD: c.fd - 1, Readable: true})
	c.waitingFor = stepAppend
	for _, before := range []bool{false, true} {
		for _, e := range []epoll.Event{{Writable: true}, {Readable: true}, {HungUp: true}, {Readable: true, Writable: true, HungUp: true}} {
			e.FD, c.readable, c.hungUp = c.fd, before, before
			p.send("x")
			l.handleEvent(e)
			if c.readable != (before || e.Readable) || c.hungUp != (before || e.HungUp) {
				t.Errorf("%+v: readable %t, hung up %t; before: %t", e, c.readable, c.hungUp, before)
			}
			if c.waitingFor != stepAppend || len(c.in) > 0 || c.discardedBytes > 0 {
				t.Fatalf("%+v: the connection continues while its usages are stored", e)
			}
		}
	}
}

// A turn answers a limited number of requests. Each gets one response, on its own
// connection.
func TestResponsesPerTurnAreLimited(t *testing.T) {
	log := newCommitLog()
	l := newManualLoop(t, log, Options{})
	var clients []*conn
	var peers []*peer
	for range maxTurnResponses + 3 {
		c, p := l.connectPeer(t, post(`{}`))
		clients, peers = append(clients, c), append(peers, p)
	}
	l.commit()
	l.commit() // nothing to commit
	if log.commitCalls != 1 {
		t.Errorf("%d calls of Commit, want 1", log.commitCalls)
	}
	l.waiter.Deliver(wal.Outcome{Commit: 99}) // no connection waits for it
	if n := l.resumeCommitted(); n != 0 {
		t.Errorf("%d responses for another commit", n)
	}
	log.finish(log.startNextCommit(), nil)
	for _, want := range []int{maxTurnResponses, 3, 0} {
		if n := l.resumeCommitted(); n != want {
			t.Errorf("%d responses in a turn, want %d", n, want)
		}
		if want == maxTurnResponses != l.hasOutcomes() {
			t.Errorf("after %d responses: has outcomes: %t", want, l.hasOutcomes())
		}
	}
	for i, p := range peers {
		if got := p.received(); strings.Count(got, "HTTP/1.1 201") != 1 {
			t.Fatalf("%d: %q", i, got)
		}
	}
	if len(l.commitWaits) != 0 || len(l.spareLists) != 1 || len(l.spareLists[0]) != 0 || l.spareLists[0][:1][0] != nil {
		t.Fatalf("%d commits are awaited, %d spare lists, the first with %d", len(l.commitWaits), len(l.spareLists), len(l.spareLists[0]))
	}

	// The second of two commits ends first.
	var numbers []uint64
	for i := range 2 {
		peers[i].send(post(fmt.Sprintf(`{"n":%d}`, i)))
		l.handleEvent(epoll.Event{FD: clients[i].fd, Readable: true})
		numbers = append(numbers, log.startNextCommit())
	}
	for i := 1; i >= 0; i-- {
		log.finish(numbers[i], nil)
		if n := l.resumeCommitted(); n != 1 {
			t.Errorf("%d responses, want 1", n)
		}
		if got := peers[i].received() + "|" + peers[1-i].received(); strings.Count(got, "HTTP/1.1 201") != 1 || got[0] == '|' {
			t.Errorf("received %q", got)
		}
	}
	if l.commit(); log.commitCalls != 2 || len(l.spareLists) != 2 {
		t.Errorf("%d calls of Commit, %d spare lists, want 2 and 2:", log.commitCalls, len(l.spareLists))
	}
	if clients[0].waitingFor != stepRead || clients[0].closed {
		t.Error("the connection does not continue")
	}
}

// A client that sends many requests at once gets a limited number of responses per turn.
// The rest follows without another event.
func TestResponsesPerTurnAndConnectionAreLimited(t *testing.T) {
	for name, row := range map[string]struct{ request, response string }{
		"pages":           {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200"},
		"rejected usages": {post("x"), "HTTP/1.1 400"},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 3*maxStepsInTurn + 1
			l := newManualLoop(t, newMemoryLog(), Options{})
			c, p := l.connectPeer(t, strings.Repeat(row.request, n))
			for all, turns := 0, 1; all < n; turns++ {
				got := strings.Count(p.received(), row.response)
				if all += got; got == 0 || got > maxStepsInTurn {
					t.Fatalf("%d responses in turn %d, %d of %d so far", got, turns, all, n)
				}
				if posted := slices.Contains(l.posted, c); all < n && !posted {
					t.Fatalf("%d of %d responses, and the connection does not continue", all, n)
				}
				l.resumePosted()
			}
		})
	}
}

// A turn resumes a limited number of posted connections. A closed one is not resumed, even
// if another file has its descriptor.
func TestPostedConnectionsPerTurnAreLimited(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	c, _ := l.connectPeer(t, "")
	for range maxTurnResponses + 3 {
		l.posted = append(l.posted, c)
	}
	c.posted = reasonMore
	for _, want := range []int{maxTurnResponses, 3, 0} {
		if n := l.resumePosted(); n != want {
			t.Errorf("%d posted connections in a turn, want %d", n, want)
		}
	}
	if l.posted[:1][0] != nil || c.posted != 0 {
		t.Error("a resumed connection is still referenced")
	}
	for _, waits := range []step{stepRead, stepEnd} {
		closed, _ := l.connectPeer(t, "")
		closed.waitingFor, closed.readable = waits, true
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.post(closed, reasonMore)
		l.close(closed)
		if l.conns[closed.fd] != nil {
			t.Error("a closed connection is still in conns")
		}
		if err := unix.Dup2(fds[0], closed.fd); err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Write(fds[1], []byte("another's"))
		l.resumePosted()
		if n, err := unix.IoctlGetInt(closed.fd, unix.SIOCINQ); n != len("another's") || err != nil {
			t.Errorf("%d bytes of the other file are left: %v", n, err)
		}
		for _, fd := range []int{fds[0], fds[1], closed.fd} {
			_ = unix.Close(fd)
		}
	}
}

// A new connection goes to the loop with the fewest, loops that wait for memory are woken,
// and a stuck loop is not alive.
func TestLoopsOfAServer(t *testing.T) {
	a, b := newManualLoop(t, newMemoryLog(), Options{}), newManualLoop(t, newMemoryLog(), Options{})
	h := a.server
	if h.endLoops(); h.leastLoadedLoop() != nil || h.Alive() != nil {
		t.Error("there is a loop before the first listener")
	}
	h.wakeMemoryWaiters()
	h.loops.Store(&[]*loop{a, b})
	woken := func(l *loop) bool {
		select {
		case <-l.woken:
			return true
		default:
			return false
		}
	}
	for _, loads := range [][2]int64{{2, 1}, {1, 2}} {
		a.connCount.Store(loads[0])
		b.connCount.Store(loads[1])
		if least := h.leastLoadedLoop(); least.connCount.Load() != 1 {
			t.Errorf("of %v connections, the loop with %d was chosen", loads, least.connCount.Load())
		}
	}
	b.memoryShort.Store(true)
	if h.wakeMemoryWaiters(); woken(a) || !woken(b) {
		t.Error("the wrong loop was woken")
	}
	now := time.Now()
	for _, began := range []time.Duration{-time.Second, -stuckAfter + time.Second, -stuckAfter - time.Second} {
		b.turnStart.Store(h.conns.deadline(now.Add(began)))
		if err := h.Alive(); (err != nil) != (began < -stuckAfter) {
			t.Errorf("a turn that began %v ago: %v", began, err)
		}
	}
	b.turnStart.Store(0) // the loop waits
	if err := h.Alive(); err != nil {
		t.Error(err)
	}
	b.fail(errors.New("a test"))
	if h.Alive() == nil {
		t.Error("a failed loop is alive")
	}
	if h.endLoops(); !a.shouldEnd || !b.shouldEnd || !woken(a) || !woken(b) {
		t.Error("a loop does not end")
	}
}

// A loop stores the start of its turn, and 0 while it waits. The durations of turns that did
// anything are counted.
func TestTurnsAreTimed(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	h := l.server
	for n := range uint64(3) {
		before, began := h.LoopTurns().Count(), int64(0)
		if done, more := l.turns(10, func() int { began = l.turnStart.Load(); return int(n) }); done != int(n) || more {
			t.Errorf("%d done, want %d; more: %t", done, n, more)
		}
		if late := time.Duration(h.conns.deadline(time.Now()) - began); late < 0 || late > testTimeout {
			t.Errorf("a turn that begins now has the start %v ago", late)
		}
		if got := h.LoopTurns().Count() - before; got != min(n, 1) {
			t.Errorf("%d turns are counted for %d events", got, n)
		}
	}
	if done, more := l.turns(10, func() int { return 10 }); done != 10*maxRoundTurns || !more {
		t.Errorf("%d done, more: %t; want %d and more", done, more, 10*maxRoundTurns)
	}
	go l.run()
	waitFor(t, func() bool { return l.turnStart.Load() == 0 })
	h.loops.Store(&[]*loop{l})
	h.endLoops()
	<-l.ended
}

// Without descriptors no loop starts, and a loop that can't wait ends.
func TestLoopsNeedDescriptors(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{})
	closedPoller, noDescriptors := newManualLoop(t, newMemoryLog(), Options{}), newManualLoop(t, newMemoryLog(), Options{})
	_ = closedPoller.poller.Close()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	none := before
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err := h.startLoops()
	noDescriptors.run() // poll(2) fails
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err == nil || h.loops.Load() != nil {
		t.Errorf("loops started without descriptors: %v", err)
	}
	closedPoller.run()
	for _, l := range []*loop{closedPoller, noDescriptors} {
		if l.server.loops.Store(&[]*loop{l}); l.server.Alive() == nil {
			t.Error("a loop that has ended is alive")
		}
	}
	if err := h.startLoops(); err != nil {
		t.Fatal(err)
	}
	first := h.loops.Load()
	if err := h.startLoops(); err != nil || h.loops.Load() != first {
		t.Errorf("a second call started other loops: %v", err)
	}
	h.endLoops()
	for _, l := range *first {
		<-l.ended
	}
}

// A loop resumes a connection when its deadline has passed, not earlier, and not without a
// deadline.
func TestALoopResumesAConnectionOnceItsDeadlineHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newManualLoop(t, newMemoryLog(), Options{})
		s := &socket{listener: &net.UnixAddr{}, fd: -1}
		c := l.server.newConn(s)
		s.joinLoop(c, l)
		for _, of := range []int{readDeadline, writeDeadline} {
			set := []func(time.Time) error{s.SetReadDeadline, s.SetWriteDeadline}[of]
			for _, in := range []time.Duration{time.Hour, 0, -time.Hour} {
				_ = set(time.Now().Add(in))
				if passed := in <= 0; s.deadlinePassed(of, time.Now()) != passed || (l.postedFor(c) == reasonDeadline) != passed {
					t.Errorf("deadline in %v: passed %t, posted for %d", in, s.deadlinePassed(of, time.Now()), l.postedFor(c))
				}
				<-time.After(max(in, 0))
				synctest.Wait()
				if !s.deadlinePassed(of, time.Now()) || s.deadlinePassed(1-of, time.Now()) || l.postedFor(c) != reasonDeadline {
					t.Errorf("after %v: passed %t, posted for %d", in, s.deadlinePassed(of, time.Now()), l.postedFor(c))
				}
				_ = set(time.Time{})
				l.clearPosted(c)
				if _ = set(time.Time{}); s.deadlinePassed(of, time.Now()) || l.postedFor(c) != 0 {
					t.Errorf("without a deadline: a deadline has passed, or posted for %d", l.postedFor(c))
				}
			}
		}
	})
}

// If there is no loop, or the loop has ended, a socket joins none.
func TestALoopThatHasEndedAcceptsNoConnection(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	c, s := &conn{}, &socket{fd: 7}
	if s.joinLoop(c, nil); c.loop != nil || s.conn != nil {
		t.Error("the socket joined a loop that does not exist")
	}
	for range 2 {
		l.shouldEnd = true
		if !l.isDone() {
			t.Fatal("the loop has no connection and is not done")
		}
		if s.joinLoop(c, l); c.loop != nil || s.conn != nil || l.connCount.Load() != 0 {
			t.Error("the socket joined a loop that has ended")
		}
	}
	l.shouldEnd = false
	l.isDone()
	if s.joinLoop(c, l); c.loop != l || s.conn != c || c.socket != s || c.fd != 7 || l.connCount.Load() != 1 {
		t.Error("the socket did not join a running loop")
	}
	if l.shouldEnd = true; l.isDone() {
		t.Error("the loop is done with a connection left")
	}
}

// A connection that can't be registered with epoll is closed.
func TestAConnectionThatEpollRejectsIsClosed(t *testing.T) {
	var log bytes.Buffer
	l := newManualLoop(t, newMemoryLog(), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	file, err := os.Open("loop.go") // epoll rejects regular files
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{listener: &net.UnixAddr{}, fd: fd}
	c := l.server.newConn(s)
	s.joinLoop(c, l)
	l.resume(c, reasonNew)
	if !c.closed || l.connCount.Load() != 0 || s.fd >= 0 || !strings.Contains(log.String(), "can't wait for it") {
		t.Errorf("the connection is open, or its error is not logged: %s", &log)
	}
}

// After an early response, the rest of what the client sends is read: in turns with other
// connections, up to lingerBytes, and up to the deadline.
func TestLingeringReadsInTurns(t *testing.T) {
	startLingering := func(more string) (*loop, *conn, *peer) {
		l := newManualLoop(t, newMemoryLog(), Options{})
		c, p := l.connectPeer(t, "x\r\n"+more)
		if got := p.received(); !strings.Contains(got, " 400 ") || !p.ended() {
			t.Fatalf("received %q, want 400 and the end of the stream", got)
		}
		return l, c, p
	}
	l, c, p := startLingering("")
	l.runTurn(t)
	if c.closed || c.readable {
		t.Fatal("the lingering connection is closed, or readable, before more has arrived")
	}
	p.send(strings.Repeat("x", 100_000))
	for reads := 0; c.discardedBytes < 100_000; reads++ { // one read for each event or post
		if reads > 100 {
			t.Fatal("the connection is not read to its end")
		}
		before := c.discardedBytes
		if n, err := l.poller.Poll(l.handleEvent); err != nil || n+l.resumePosted() == 0 {
			t.Fatalf("%d bytes were read: %v", c.discardedBytes, err)
		}
		if c.discardedBytes > before+2*len(l.readBuf) {
			t.Fatalf("%d bytes were read in one step", c.discardedBytes-before)
		}
	}
	c.discardedBytes = lingerBytes - 2
	p.send("x")
	if l.runTurn(t); c.closed || c.readable {
		t.Errorf("closed before lingerBytes: %t; still readable: %t", c.closed, c.readable)
	}
	p.send("x")
	if l.runTurn(t); !c.closed {
		t.Error("the connection is read beyond lingerBytes")
	}

	l, c, p = startLingering("")
	if err := unix.Shutdown(p.fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if l.runTurn(t); !c.closed {
		t.Error("the client has closed, but the connection is open")
	}

	l, c, _ = startLingering("")
	_ = c.net.SetDeadline(time.Now())
	if l.runTurn(t); !c.closed {
		t.Error("the deadline has passed, but the connection is open")
	}
}

// In a turn, a connection's time is the start of the turn. On a worker, and after a deadline
// that may have passed during the turn, it is the current time.
func TestAConnectionUsesTheTimeOfTheTurn(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	then := time.Now().Add(-time.Minute)
	l.turns(1, func() int { return 0 })
	if !l.now.After(then) {
		t.Error("a turn does not set the loop's time")
	}
	c, p := l.connectPeer(t, "POST")
	l.now = then
	if !c.now().Equal(then) {
		t.Errorf("the time in a turn is %v, want %v", c.now(), then)
	}
	_ = c.net.SetReadDeadline(time.Now()) // after the turn has begun
	l.resumePosted()
	if got := p.received(); !strings.Contains(got, " 408 ") {
		t.Errorf("received %q", got)
	}
	c, _ = l.connectPeer(t, post(strings.Repeat(" ", unbudgetedBytes)+"{}"))
	if c.waitingFor != stepPrepare || c.ownedByLoop {
		t.Errorf("waiting for step %d, owned by the loop: %t", c.waitingFor, c.ownedByLoop)
	}
	waitFor(t, func() bool { l.runTurn(t); return c.waitingFor == stepRead })
}

// A client that leaves after Expect: 100-continue instead of sending its body leaves no
// request and no memory in use.
func TestAClientThatLeavesInsteadOfContinuingLeavesNoMemoryInUse(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	text := post("{}", "Expect: 100-continue")
	c, p := l.acceptPeer(t, text[:len(text)-2])
	if err := unix.Shutdown(p.fd, unix.SHUT_RD); err != nil { // EPIPE for the server
		t.Fatal(err)
	}
	l.resume(c, reasonNew)
	if l.runTurn(t); c.request != nil || !c.unwritable || !c.closed || l.bytesInUse() != 0 {
		t.Errorf("request: %t, unwritable: %t, closed: %t; %d bytes in use", c.request != nil, c.unwritable, c.closed, l.bytesInUse())
	}
}

// A connection lingers only if the client may still send, can be written to, and is not cut
// off.
func TestOnlyAClientThatMayStillSendLingers(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	for name, row := range map[string]struct {
		prepare func(c *conn)
		closed  bool
	}{
		"still sends": {func(*conn) {}, false},
		"unwritable":  {func(c *conn) { c.unwritable = true }, true},
		"cut off":     {func(c *conn) { c.hold.Store(holdTaken) }, true},
		"silent":      {func(c *conn) { c.clientMaySend = false }, true},
	} {
		c, _ := l.connectPeer(t, "")
		c.clientMaySend = true
		row.prepare(c)
		if l.end(c); c.closed != row.closed || !c.closed && (l.postedFor(c)&reasonMore == 0 || c.state != stateLingering) {
			t.Errorf("%s: closed %t, posted: %t, %s", name, c.closed, l.postedFor(c)&reasonMore != 0, stateNames[c.state])
		}
	}
}

// A request that a worker appends is answered after its commit.
func TestAWorkersAppendIsAnsweredAfterItsCommit(t *testing.T) {
	log := newCommitLog()
	l := newManualLoop(t, log, Options{})
	_, p := l.connectPeer(t, post(strings.Repeat(" ", unbudgetedBytes)+"{}"))
	log.waitStored(t, 1)
	waitFor(t, func() bool { log.mu.Lock(); defer log.mu.Unlock(); return log.commitCalls == 1 })
	if l.runTurn(t); p.received() != "" {
		t.Error("the response was sent before the commit ended")
	}
	log.finish(log.startNextCommit(), nil)
	if l.runTurn(t); !strings.Contains(p.received(), " 201 ") {
		t.Error("the response was not sent after the commit")
	}
}

// Large bodies, coded bodies and many usages are not quick.
func TestQuickRequestsArePreparedInTheLoop(t *testing.T) {
	c := &conn{}
	for name, row := range map[string]struct {
		r     request
		quick bool
	}{
		"one":       {request{rawBody: []byte("{}")}, true},
		"4 KiB":     {request{rawBody: make([]byte, unbudgetedBytes)}, true},
		"beyond":    {request{rawBody: make([]byte, unbudgetedBytes+1)}, false},
		"coded":     {request{coding: gzipped, rawBody: []byte("{}")}, false},
		"some":      {request{rawBody: []byte(strings.Repeat("{}", unbudgetedUsages))}, true},
		"many":      {request{rawBody: []byte(strings.Repeat("{}", unbudgetedUsages+1))}, false},
		"no bodies": {request{}, true},
	} {
		if c.request = &row.r; c.isQuick() != row.quick {
			t.Errorf("%s: quick %t", name, !row.quick)
		}
	}
}

// Between turns a connection has memory of its own. It is no more than the connection needs,
// and all of it is counted.
func TestAWaitingConnectionHasItsOwnMemory(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	const half = "POST /api/usages HTTP/1.1\r\nHost: loc"
	c, p := l.connectPeer(t, half)
	clear(l.readBuf)
	if len(l.posted) > 0 {
		t.Error("the connection is posted before more has arrived")
	}
	if string(c.in) != half || c.shareBytes != cap(c.in) || cap(c.in) > 256 || c.out != nil || c.readSpace != nil || l.bytesInUse() != c.shareBytes {
		t.Fatalf("in %q with %d bytes, out %d, space %d; share %d, in use %d", c.in, cap(c.in), cap(c.out), len(c.readSpace), c.shareBytes, l.bytesInUse())
	}
	// Send the rest of the request, and part of the next one.
	p.send(post(`{"a":1}`)[len(half):] + half)
	l.runTurn(t)
	clear(l.readBuf)
	if got := p.received(); strings.Count(got, " 201 ") != 1 || string(c.in) != half || c.consumed != 0 || c.shareBytes != cap(c.in) || l.bytesInUse() != c.shareBytes {
		t.Fatalf("response %q; %q left; share %d", got, c.in, c.shareBytes)
	}
	p.send(post(`{"a":1}`)[len(half):])
	l.runTurn(t)
	if got := p.received(); strings.Count(got, " 201 ") != 1 || c.in != nil || c.out != nil || c.shareBytes != 0 || l.bytesInUse() != 0 {
		t.Fatalf("response %q; buffers of %d and %d bytes, %d bytes in use", got, cap(c.in), cap(c.out), l.bytesInUse())
	}
	if cap(l.writeBuf) == 0 || cap(l.writeBuf) > firstBufferBytes {
		t.Errorf("the write buffer has %d bytes", cap(l.writeBuf))
	}

	// Memory of the connection is reused for its unconsumed bytes.
	own := append(make([]byte, 0, 512), "consumed"+half...)
	if got := l.ownCopy(own, own[len("consumed"):], l.readBuf); string(got) != half || cap(got) != 512 {
		t.Errorf("%q of %d bytes", got, cap(got))
	}
	for _, loops := range [][]byte{l.readBuf, nil} {
		if got := l.ownCopy(own, own, loops); cap(got) != 512 {
			t.Errorf("%q of %d bytes", got, cap(got))
		}
	}

	// A connection without a write buffer uses the loop's. A larger buffer of a connection does
	// not become the loop's.
	l.attachWriteBuffer(c)
	if cap(c.out) != cap(l.writeBuf) || &c.out[:1][0] != &l.writeBuf[:1][0] {
		t.Error("the connection does not use the loop's write buffer")
	}
	c.out = make([]byte, 0, firstBufferBytes+1)
	l.attachWriteBuffer(c)
	if cap(c.out) != firstBufferBytes+1 {
		t.Error("the connection's own buffer was replaced")
	}
	was := cap(l.writeBuf)
	for _, size := range []int{firstBufferBytes + 1, 1} {
		c.out = make([]byte, 0, size)
		if l.reclaimBuffers(c); cap(l.writeBuf) != was {
			t.Errorf("the loop's write buffer changed to %d bytes", cap(l.writeBuf))
		}
	}
	l.leftBytes.Store(1)
	if c, _ := l.connectPeer(t, half); len(c.in) > 0 || !c.awaitingMemory {
		t.Errorf("%q was read with one byte left", c.in)
	}
}

func (l *loop) bytesInUse() int { return l.budgetBytes - int(l.leftBytes.Load()) }

// A body's first buffer belongs to one request at a time.
func TestABodyBufferHasOneOwner(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	a, b := &request{}, &request{}
	l.attachBodyBuffer(a) // the loop has none
	if a.rawBody != nil {
		t.Fatal("the request got a buffer that does not exist")
	}
	a.rawBody = append(make([]byte, 0, firstBufferBytes), "{}"...)
	a.body = a.rawBody
	l.reclaimBodyBuffer(a)
	if a.rawBody != nil || a.body != nil || len(l.bodyBufs) != 1 {
		t.Fatalf("%q, %q, %d", a.rawBody, a.body, len(l.bodyBufs))
	}
	has := &request{rawBody: make([]byte, 0, 10)}
	if l.attachBodyBuffer(has); cap(has.rawBody) != 10 || len(l.bodyBufs) != 1 {
		t.Error("a request with a buffer got another one")
	}
	l.attachBodyBuffer(a)
	l.attachBodyBuffer(b)
	if cap(a.rawBody) != firstBufferBytes || len(a.rawBody) != 0 || b.rawBody != nil || len(l.bodyBufs) != 0 {
		t.Errorf("%d, %d, %d", cap(a.rawBody), cap(b.rawBody), len(l.bodyBufs))
	}
	b.rawBody = make([]byte, firstBufferBytes+1)
	if l.reclaimBodyBuffer(b); len(l.bodyBufs) != 0 || b.rawBody == nil {
		t.Error("the loop took a buffer of another size")
	}
	for range maxSpareBuffers + 1 {
		l.reclaimBodyBuffer(&request{rawBody: make([]byte, firstBufferBytes)})
	}
	if len(l.bodyBufs) != maxSpareBuffers {
		t.Errorf("%d buffers are kept, want %d", len(l.bodyBufs), maxSpareBuffers)
	}
}

// Connections that wait for memory are resumed in order, each once. Connections that were
// closed meanwhile are not resumed.
func TestConnectionsGetMemoryInTheirOrder(t *testing.T) {
	log := newMemoryLog()
	l := newManualLoop(t, log, Options{})
	l.server.loops.Store(&[]*loop{l})
	restore := exhaustLoopMemory(l.server)
	l.leftBytes.Add(-1) // too little for the first one
	var clients []*conn
	var peers []*peer
	for i := range 4 {
		c, p := l.connectPeer(t, post(fmt.Sprintf(`{"n":%d}`, i)))
		clients, peers = append(clients, c), append(peers, p)
		l.drive(c) // again
	}
	if len(l.memoryWaiters) != 4 || l.server.conns.room.readsDelayed.Load() != 4 {
		t.Fatalf("%d connections wait, %d are counted", len(l.memoryWaiters), l.server.conns.room.readsDelayed.Load())
	}
	l.close(clients[0])
	clients[1].waitingFor = stepWrite // it writes meanwhile
	if l.resumeMemoryWaiters(); !l.memoryShort.Load() || len(l.memoryWaiters) != 3 {
		t.Errorf("%d connections wait, memory short: %t", len(l.memoryWaiters), l.memoryShort.Load())
	}
	restore()
	l.leftBytes.Add(1)
	if l.resumeMemoryWaiters(); l.memoryShort.Load() || len(l.memoryWaiters) != 0 {
		t.Errorf("%d connections wait, memory short: %t", len(l.memoryWaiters), l.memoryShort.Load())
	}
	if want := []string{`{"n":2}`, `{"n":3}`}; fmt.Sprint(log.usages) != fmt.Sprint(want) {
		t.Errorf("stored %q", log.usages)
	}
	l.runTurn(t)
	for i, p := range peers {
		if got := p.received(); (got != "") != (i > 0) || clients[i].awaitingMemory {
			t.Errorf("connection %d, awaiting memory %t: %q", i, clients[i].awaitingMemory, got)
		}
	}
}

// At most maxWorkers workers run at a time, and each job runs once.
func TestWorkersAreLimited(t *testing.T) {
	var w workers
	var done sync.WaitGroup
	began, leave := make(chan int, 3*maxWorkers), make(chan struct{})
	for i := range 2 * maxWorkers {
		done.Add(1)
		w.do(func() { began <- i; <-leave; done.Done() })
	}
	for range maxWorkers {
		<-began
	}
	w.mu.Lock()
	if w.running != maxWorkers || len(w.queue) != maxWorkers {
		t.Errorf("%d workers run, %d jobs wait", w.running, len(w.queue))
	}
	waiting := w.queue
	w.mu.Unlock()
	close(leave)
	done.Wait()
	for i := maxWorkers; i < 2*maxWorkers; i++ {
		if n := <-began; n < maxWorkers {
			t.Errorf("job %d ran twice", n)
		}
	}
	waitFor(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.running == 0 })
	if len(w.queue) != 0 || waiting[0] != nil {
		t.Error("a finished job is still referenced")
	}
}

// watchSendBuffer sets the size of a send buffer, and returns a function that reads it.
func watchSendBuffer(t *testing.T, fd int) func() int {
	t.Helper()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBufferBytes); err != nil {
		t.Fatal(err)
	}
	return func() int {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
		if err != nil {
			t.Error(err)
		}
		return n
	}
}

// The send buffer is larger only while a large response is being written.
func TestOnlyALargeResponseHasALargeSendBuffer(t *testing.T) {
	l := newManualLoop(t, newMemoryLog(), Options{})
	c, p := l.connectPeer(t, "")
	buffer := watchSendBuffer(t, c.fd)
	small := buffer()
	p.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	l.runTurn(t)
	if p.received(); buffer() != small {
		t.Error("a small response has a large send buffer")
	}
	c.largeBody, c.waitingFor = make([]byte, 1<<20), stepWrite
	c.out = append(c.out, "x"...)
	if l.write(c) || buffer() <= small {
		t.Fatalf("a large response has a send buffer of %d bytes", buffer())
	}
	got := 0
	for range 100 {
		got += len(p.received())
		if l.write(c) {
			break
		}
	}
	got += len(p.received())
	if got != 1+1<<20 || buffer() != small || c.sentBytes != 0 {
		t.Errorf("%d bytes received, send buffer of %d bytes, %d counted as sent", got, buffer(), c.sentBytes)
	}
}

// Without a loop, too, the send buffer is larger only while a large response is being
// written.
func TestOnlyALargeResponseHasALargeSendBufferWithoutALoop(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fds[1]), "client")
	defer client.Close()
	c := newServer(t, newMemoryLog(), Options{}).newConn(&socket{listener: &net.UnixAddr{}, fd: fds[0]})
	defer c.raw.Close()
	buffer := watchSendBuffer(t, fds[0])
	small := buffer()
	c.out, c.largeBody = []byte("x"), make([]byte, 1<<20)
	written := make(chan error, 1)
	go func() { written <- c.write() }()
	waitFor(t, func() bool { return buffer() > small })
	if _, err := io.CopyN(io.Discard, client, 1+1<<20); err != nil {
		t.Error(err)
	}
	if err := <-written; err != nil || buffer() != small {
		t.Errorf("%v; send buffer of %d bytes", err, buffer())
	}
	c.largeBody = nil
	if err := c.write(); err != nil || buffer() != small {
		t.Errorf("%v; send buffer of %d bytes", err, buffer())
	}
}

// postedFor returns why a connection is posted. Timers post, too.
func (l *loop) postedFor(c *conn) postReason {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.posted
}

// clearPosted removes all posted connections.
func (l *loop) clearPosted(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posted, c.posted = nil, 0
}
