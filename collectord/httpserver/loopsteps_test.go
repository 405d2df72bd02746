package httpserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/epoll"
	"collectord/wal"
)

// handLoop is a loop that a test turns by hand.
func handLoop(t *testing.T, log Log, o Options) *loop {
	t.Helper()
	h := newServer(t, log, o)
	h.open.epoch = h.open.epoch.Add(-time.Hour) // it has run for a while
	l, err := newLoop(h, headBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.poller.Close() })
	return l
}

// peer is the client's end of a connection of such a loop.
type peer struct {
	t  *testing.T
	fd int
}

// connect has a loop take in a connection on which text has come.
func (l *loop) connect(t *testing.T, text string) (*conn, *peer) {
	t.Helper()
	c, p := l.accept(t, text)
	l.now = time.Now()
	l.look(c, begins)
	return c, p
}

// accept returns a connection on which text has come.
func (l *loop) accept(t *testing.T, text string) (*conn, *peer) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t, fds[1]}
	t.Cleanup(func() { _ = unix.Close(p.fd) })
	s := &socket{listener: &net.UnixAddr{}, fd: fds[0]}
	c := l.server.newConn(s)
	s.join(c, l)
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

// received is what has come to it since the last time.
func (p *peer) received() string {
	b := make([]byte, 1<<20)
	n, _ := unix.Read(p.fd, b)
	return string(b[:max(n, 0)])
}

// ended reports whether its connection was closed, and all that came was read.
func (p *peer) ended() bool {
	n, err := unix.Read(p.fd, make([]byte, 1))
	return n == 0 && err == nil
}

// turn handles all that is ready now.
func (l *loop) turn(t *testing.T) {
	t.Helper()
	for n := 1; n > 0; {
		l.now = time.Now()
		ready, err := l.poller.Poll(l.event)
		if err != nil {
			t.Fatal(err)
		}
		n = ready + l.takeOutcomes() + l.takePosted()
	}
	l.commit()
}

// An event changes what is known of its own connection only, and that goes on if it waits
// for it.
func TestAnEventIsOfWhoWaitsForIt(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	c, p := l.connect(t, "")
	l.event(epoll.Event{FD: len(l.conns) + 1000, Readable: true}) // it was closed in this turn
	l.event(epoll.Event{FD: c.fd - 1, Readable: true})
	c.waits = stepAppend
	for _, before := range []bool{false, true} {
		for _, e := range []epoll.Event{{Writable: true}, {Readable: true}, {HungUp: true}, {Readable: true, Writable: true, HungUp: true}} {
			e.FD, c.readable, c.hungUp = c.fd, before, before
			p.send("x")
			l.event(e)
			if c.readable != (before || e.Readable) || c.hungUp != (before || e.HungUp) {
				t.Errorf("%+v: readable %t, hung up %t; before: %t", e, c.readable, c.hungUp, before)
			}
			if c.waits != stepAppend || len(c.in) > 0 || c.ignored > 0 {
				t.Fatalf("%+v: it goes on while its usages are stored", e)
			}
		}
	}
}

// Each of many answers is given once, so many in a turn, to whom it belongs.
func TestSoManyAnswersAreGivenInATurn(t *testing.T) {
	log := newCommitLog()
	l := handLoop(t, log, Options{})
	var clients []*conn
	var peers []*peer
	for range turnAnswers + 3 {
		c, p := l.connect(t, post(`{}`))
		clients, peers = append(clients, c), append(peers, p)
	}
	l.commit()
	l.commit() // nothing is there to be committed
	if log.began != 1 {
		t.Errorf("%d commits have begun", log.began)
	}
	l.waiter.Deliver(wal.Outcome{Commit: 99}) // nobody waits for it
	if n := l.takeOutcomes(); n != 0 {
		t.Errorf("%d answers of another commit", n)
	}
	log.finish(log.next(), nil)
	for _, want := range []int{turnAnswers, 3, 0} {
		if n := l.takeOutcomes(); n != want {
			t.Errorf("%d answers in a turn, want %d", n, want)
		}
	}
	for i, p := range peers {
		if got := p.received(); strings.Count(got, "HTTP/1.1 201") != 1 {
			t.Fatalf("%d: %q", i, got)
		}
	}
	if len(l.awaited) != 0 || len(l.spare) != 1 || len(l.spare[0]) != 0 || l.spare[0][:1][0] != nil {
		t.Fatalf("%d wait still, %d lists are spare, with %d", len(l.awaited), len(l.spare), len(l.spare[0]))
	}

	// Two commits, of which the other ends first.
	var numbers []uint64
	for i := range 2 {
		peers[i].send(post(fmt.Sprintf(`{"n":%d}`, i)))
		l.event(epoll.Event{FD: clients[i].fd, Readable: true})
		numbers = append(numbers, log.next())
	}
	for i := 1; i >= 0; i-- {
		log.finish(numbers[i], nil)
		if n := l.takeOutcomes(); n != 1 {
			t.Errorf("%d answers, want one", n)
		}
		if got := peers[i].received() + "|" + peers[1-i].received(); strings.Count(got, "HTTP/1.1 201") != 1 || got[0] == '|' {
			t.Errorf("%q", got)
		}
	}
	if l.commit(); log.began != 2 || len(l.spare) != 2 {
		t.Errorf("%d commits have begun, %d lists are spare", log.began, len(l.spare))
	}
	if clients[0].waits != stepRead || clients[0].closed {
		t.Error("it does not go on")
	}
}

// So many connections are looked at in a turn; none that is closed, though another has its
// descriptor by now.
func TestSoManyAreLookedAtInATurn(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	c, _ := l.connect(t, "")
	for range turnAnswers + 3 {
		l.posted = append(l.posted, c)
	}
	c.posted = more
	for _, want := range []int{turnAnswers, 3, 0} {
		if n := l.takePosted(); n != want {
			t.Errorf("%d in a turn, want %d", n, want)
		}
	}
	if l.posted[:1][0] != nil || c.posted != 0 {
		t.Error("what was looked at is kept")
	}
	for _, waits := range []step{stepRead, stepEnd} {
		gone, _ := l.connect(t, "")
		gone.waits, gone.readable = waits, true
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.post(gone, more)
		l.close(gone)
		if l.conns[gone.fd] != nil {
			t.Error("what is closed is still known by its descriptor")
		}
		if err := unix.Dup2(fds[0], gone.fd); err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Write(fds[1], []byte("another's"))
		l.takePosted()
		if n, err := unix.IoctlGetInt(gone.fd, unix.SIOCINQ); n != len("another's") || err != nil {
			t.Errorf("%d bytes are left of another's: %v", n, err)
		}
		for _, fd := range []int{fds[0], fds[1], gone.fd} {
			_ = unix.Close(fd)
		}
	}
}

// The loop with the fewest connections is the next one's, those that starve are woken, and
// one that is stuck is not alive.
func TestLoopsOfAServer(t *testing.T) {
	a, b := handLoop(t, newMemoryLog(), Options{}), handLoop(t, newMemoryLog(), Options{})
	h := a.server
	if h.endLoops(); h.leastLoop() != nil || h.Alive() != nil {
		t.Error("there is a loop before any is started")
	}
	h.wakeHungry()
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
		a.load.Store(loads[0])
		b.load.Store(loads[1])
		if least := h.leastLoop(); least.load.Load() != 1 {
			t.Errorf("of %v one with %d", loads, least.load.Load())
		}
	}
	b.starving.Store(true)
	if h.wakeHungry(); woken(a) || !woken(b) {
		t.Error("the wrong one was woken")
	}
	now := time.Now()
	for _, began := range []time.Duration{-time.Second, -stuckAfter + time.Second, -stuckAfter - time.Second} {
		b.began.Store(h.open.deadline(now.Add(began)))
		if err := h.Alive(); (err != nil) != (began < -stuckAfter) {
			t.Errorf("a turn that began %v ago: %v", began, err)
		}
	}
	b.began.Store(0) // it waits
	if err := h.Alive(); err != nil {
		t.Error(err)
	}
	b.fail(errors.New("a test"))
	if h.Alive() == nil {
		t.Error("a loop that failed is alive")
	}
	if h.endLoops(); !a.over || !b.over || !woken(a) || !woken(b) {
		t.Error("a loop was not told to end")
	}
}

// A loop shows since when it has been at a turn, counts how long turns take that do
// something, and shows nothing while it waits.
func TestALoopShowsItsTurns(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	h := l.server
	for n := range uint64(3) {
		before, began := h.LoopTurns().Count(), int64(0)
		if done, more := l.turns(10, func() int { began = l.began.Load(); return int(n) }); done != int(n) || more {
			t.Errorf("%d were done instead of %d, more: %t", done, n, more)
		}
		if late := time.Duration(h.open.deadline(time.Now()) - began); late < 0 || late > testLimit {
			t.Errorf("a turn that begins now is shown to have begun %v ago", late)
		}
		if got := h.LoopTurns().Count() - before; got != min(n, 1) {
			t.Errorf("%d turns are counted that did %d", got, n)
		}
	}
	if done, more := l.turns(10, func() int { return 10 }); done != 10*roundTurns || !more {
		t.Errorf("%d were done, more: %t", done, more)
	}
	go l.run()
	waitFor(t, func() bool { return l.began.Load() == 0 })
	h.loops.Store(&[]*loop{l})
	h.endLoops()
	<-l.ended
}

// Loops that there are no descriptors for are not started, and one that can't wait ends.
func TestLoopsNeedDescriptors(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{})
	blind, restless := handLoop(t, newMemoryLog(), Options{}), handLoop(t, newMemoryLog(), Options{})
	_ = blind.poller.Close()
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
	restless.run() // poll(2) fails
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err == nil || h.loops.Load() != nil {
		t.Errorf("loops: %v", err)
	}
	blind.run()
	for _, l := range []*loop{blind, restless} {
		if l.server.loops.Store(&[]*loop{l}); l.server.Alive() == nil {
			t.Error("a loop that has ended is alive")
		}
	}
	if err := h.startLoops(); err != nil {
		t.Fatal(err)
	}
	first := h.loops.Load()
	if err := h.startLoops(); err != nil || h.loops.Load() != first {
		t.Errorf("there are others for the next listener: %v", err)
	}
	h.endLoops()
	for _, l := range *first {
		<-l.ended
	}
}

// A loop looks at a connection when a deadline has passed: no sooner, and not where none is
// set.
func TestADeadlineIsLookedAtOnceItHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := handLoop(t, newMemoryLog(), Options{})
		s := &socket{listener: &net.UnixAddr{}, fd: -1}
		c := l.server.newConn(s)
		s.join(c, l)
		for _, of := range []int{reading, writing} {
			set := []func(time.Time) error{s.SetReadDeadline, s.SetWriteDeadline}[of]
			for _, in := range []time.Duration{time.Hour, 0, -time.Hour} {
				_ = set(time.Now().Add(in))
				if passed := in <= 0; s.isLate(of, time.Now()) != passed || (l.postedFor(c) == late) != passed {
					t.Errorf("in %v: late %t, looked at for %d", in, s.isLate(of, time.Now()), l.postedFor(c))
				}
				<-time.After(max(in, 0))
				synctest.Wait()
				if !s.isLate(of, time.Now()) || s.isLate(1-of, time.Now()) || l.postedFor(c) != late {
					t.Errorf("after %v: late %t, looked at for %d", in, s.isLate(of, time.Now()), l.postedFor(c))
				}
				_ = set(time.Time{})
				l.takeAll(c)
				if _ = set(time.Time{}); s.isLate(of, time.Now()) || l.postedFor(c) != 0 {
					t.Errorf("without a deadline it is late, or looked at for %d", l.postedFor(c))
				}
			}
		}
	})
}

// A loop that has ended, or is not there, takes in no connection.
func TestALoopThatHasEndedTakesInNobody(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	c, s := &conn{}, &socket{fd: 7}
	if s.join(c, nil); c.loop != nil || s.driver != nil {
		t.Error("there is no loop")
	}
	for range 2 {
		l.over = true
		if !l.isOver() {
			t.Fatal("nobody is left, and it goes on")
		}
		if s.join(c, l); c.loop != nil || s.driver != nil || l.load.Load() != 0 {
			t.Error("it has ended")
		}
	}
	l.over = false
	l.isOver()
	if s.join(c, l); c.loop != l || s.driver != c || c.socket != s || c.fd != 7 || l.load.Load() != 1 {
		t.Error("it goes on, and does not take one in")
	}
	if l.over = true; l.isOver() {
		t.Error("it ends with one left")
	}
}

// A connection that can't be waited for is closed.
func TestAConnectionThatCantBeWaitedForIsClosed(t *testing.T) {
	var log bytes.Buffer
	l := handLoop(t, newMemoryLog(), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	file, err := os.Open("loop.go") // epoll takes no files
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
	s.join(c, l)
	l.look(c, begins)
	if !c.closed || l.load.Load() != 0 || s.fd >= 0 || !strings.Contains(log.String(), "can't be waited for") {
		t.Errorf("it is open, or was read: %s", &log)
	}
}

// Of a client that was answered while it sent, what follows is read: not for ever, not
// without end, and not at the cost of others.
func TestWhatFollowsTheLastAnswerIsReadInTurns(t *testing.T) {
	lingers := func(more string) (*loop, *conn, *peer) {
		l := handLoop(t, newMemoryLog(), Options{})
		c, p := l.connect(t, "x\r\n"+more)
		if got := p.received(); !strings.Contains(got, " 400 ") || !p.ended() {
			t.Fatalf("%q", got)
		}
		return l, c, p
	}
	l, c, p := lingers("")
	l.turn(t)
	if c.closed || c.readable {
		t.Fatal("nothing has come, and it is closed, or read again")
	}
	p.send(strings.Repeat("x", 100_000))
	for reads := 0; c.ignored < 100_000; reads++ { // one read for each time that it is looked at
		if reads > 100 {
			t.Fatal("it is not read")
		}
		before := c.ignored
		if n, err := l.poller.Poll(l.event); err != nil || n+l.takePosted() == 0 {
			t.Fatalf("%d bytes were read: %v", c.ignored, err)
		}
		if c.ignored > before+2*len(l.scratch) {
			t.Fatalf("%d bytes were read at once", c.ignored-before)
		}
	}
	c.ignored = lingerBytes - 2
	p.send("x")
	if l.turn(t); c.closed || c.readable {
		t.Errorf("it is closed too soon (%t), or there is more to read (%t)", c.closed, c.readable)
	}
	p.send("x")
	if l.turn(t); !c.closed {
		t.Error("it is read without end")
	}

	l, c, p = lingers("")
	if err := unix.Shutdown(p.fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if l.turn(t); !c.closed {
		t.Error("its client is gone, and it is open")
	}

	l, c, _ = lingers("")
	_ = c.net.SetDeadline(time.Now())
	if l.turn(t); !c.closed {
		t.Error("its time is over, and it is open")
	}
}

// A connection uses the time at which the turn began, which is the loop's: not if a deadline
// may have passed since then, nor on a worker.
func TestTheTimeOfATurnIsTheLoops(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	then := time.Now().Add(-time.Minute)
	l.turns(1, func() int { return 0 })
	if !l.now.After(then) {
		t.Error("a turn begins without a time")
	}
	c, p := l.connect(t, "POST")
	l.now = then
	if !c.now().Equal(then) {
		t.Errorf("in a turn of %v it is %v", then, c.now())
	}
	_ = c.net.SetReadDeadline(time.Now()) // after the turn has begun
	l.takePosted()
	if got := p.received(); !strings.Contains(got, " 408 ") {
		t.Errorf("%q", got)
	}
	c, _ = l.connect(t, post(strings.Repeat(" ", freeBytes)+"{}"))
	if c.waits != stepPrepare || c.inTurn {
		t.Errorf("it waits for step %d, with the loop's time: %t", c.waits, c.inTurn)
	}
	waitFor(t, func() bool { l.turn(t); return c.waits == stepRead })
}

// A client that leaves instead of sending what it was told to send leaves nothing behind.
func TestWhoLeavesBeforeItContinuesLeavesNothing(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	text := post("{}", "Expect: 100-continue")
	c, p := l.accept(t, text[:len(text)-2])
	if err := unix.Shutdown(p.fd, unix.SHUT_RD); err != nil { // EPIPE for the server
		t.Fatal(err)
	}
	l.look(c, begins)
	if l.turn(t); c.request != nil || !c.gone || !c.closed || l.kept() != 0 {
		t.Errorf("a request is there: %t, it is gone: %t, closed: %t; %d bytes are kept", c.request != nil, c.gone, c.closed, l.kept())
	}
}

// Who takes no answer, or is cut off, is not listened to.
func TestWhoIsGoneIsNotListenedTo(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	for name, row := range map[string]struct {
		is     func(c *conn)
		closed bool
	}{
		"sends still": {func(*conn) {}, false},
		"gone":        {func(c *conn) { c.gone = true }, true},
		"cut off":     {func(c *conn) { c.hold.Store(taken) }, true},
		"silent":      {func(c *conn) { c.unread = false }, true},
	} {
		c, _ := l.connect(t, "")
		c.unread = true
		row.is(c)
		if l.end(c); c.closed != row.closed || !c.closed && (l.postedFor(c)&more == 0 || c.state != stateLingering) {
			t.Errorf("%s: closed %t, it is to be read: %t, %s", name, c.closed, l.postedFor(c)&more != 0, stateNames[c.state])
		}
	}
}

// What a worker appends is answered once its commit has ended.
func TestWhatAWorkerAppendsIsAnsweredAfterItsCommit(t *testing.T) {
	log := newCommitLog()
	l := handLoop(t, log, Options{})
	_, p := l.connect(t, post(strings.Repeat(" ", freeBytes)+"{}"))
	log.stored(t, 1)
	waitFor(t, func() bool { log.mu.Lock(); defer log.mu.Unlock(); return log.began == 1 })
	if l.turn(t); p.received() != "" {
		t.Error("it was answered before")
	}
	log.finish(log.next(), nil)
	if l.turn(t); !strings.Contains(p.received(), " 201 ") {
		t.Error("it was not answered")
	}
}

// What takes long is not quick: large bodies, codings, many usages.
func TestWhatIsPreparedInTheLoop(t *testing.T) {
	c := &conn{}
	for name, row := range map[string]struct {
		r     request
		quick bool
	}{
		"one":       {request{arriving: []byte("{}")}, true},
		"4 KiB":     {request{arriving: make([]byte, freeBytes)}, true},
		"beyond":    {request{arriving: make([]byte, freeBytes+1)}, false},
		"coded":     {request{coding: gzipped, arriving: []byte("{}")}, false},
		"some":      {request{arriving: []byte(strings.Repeat("{}", freeParts))}, true},
		"many":      {request{arriving: []byte(strings.Repeat("{}", freeParts+1))}, false},
		"no bodies": {request{}, true},
	} {
		if c.request = &row.r; c.isQuick() != row.quick {
			t.Errorf("%s: quick %t", name, !row.quick)
		}
	}
}

// What a connection keeps between turns is its own, no more than it needs, and counted.
func TestWhatAConnectionKeepsIsItsOwn(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	const half = "POST /api/usages HTTP/1.1\r\nHost: loc"
	c, p := l.connect(t, half)
	clear(l.scratch)
	if len(l.posted) > 0 {
		t.Error("it is looked at again before more has come")
	}
	if string(c.in) != half || c.share != cap(c.in) || cap(c.in) > 256 || c.out != nil || c.space != nil || l.kept() != c.share {
		t.Fatalf("%q of %d bytes, out %d, space %d; %d are counted, %d of the loop", c.in, cap(c.in), cap(c.out), len(c.space), c.share, l.kept())
	}
	// The rest, and part of the next one.
	p.send(post(`{"a":1}`)[len(half):] + half)
	l.turn(t)
	clear(l.scratch)
	if got := p.received(); strings.Count(got, " 201 ") != 1 || string(c.in) != half || c.from != 0 || c.share != cap(c.in) || l.kept() != c.share {
		t.Fatalf("%q; %q is left; %d are counted", got, c.in, c.share)
	}
	p.send(post(`{"a":1}`)[len(half):])
	l.turn(t)
	if got := p.received(); strings.Count(got, " 201 ") != 1 || c.in != nil || c.out != nil || c.share != 0 || l.kept() != 0 {
		t.Fatalf("%q; %d and %d bytes are kept, %d counted", got, cap(c.in), cap(c.out), l.kept())
	}
	if cap(l.out) == 0 || cap(l.out) > firstBuffer {
		t.Errorf("answers are written in %d bytes", cap(l.out))
	}

	// Own memory is used again for what is left of it.
	own := append(make([]byte, 0, 512), "consumed"+half...)
	if got := l.own(own, own[len("consumed"):], l.scratch); string(got) != half || cap(got) != 512 {
		t.Errorf("%q of %d bytes", got, cap(got))
	}
	for _, loops := range [][]byte{l.scratch, nil} {
		if got := l.own(own, own, loops); cap(got) != 512 {
			t.Errorf("%q of %d bytes", got, cap(got))
		}
	}

	// What is lent is the loop's, and what is larger than that does not become it.
	l.lend(c)
	if cap(c.out) != cap(l.out) || &c.out[:1][0] != &l.out[:1][0] {
		t.Error("another's memory is lent")
	}
	c.out = make([]byte, 0, firstBuffer+1)
	l.lend(c)
	if cap(c.out) != firstBuffer+1 {
		t.Error("what a connection has is replaced")
	}
	was := cap(l.out)
	for _, size := range []int{firstBuffer + 1, 1} {
		c.out = make([]byte, 0, size)
		if l.keep(c); cap(l.out) != was {
			t.Errorf("the loop keeps %d bytes", cap(l.out))
		}
	}
	l.left.Store(1)
	if c, _ := l.connect(t, half); len(c.in) > 0 || !c.starving {
		t.Errorf("%q was read with one byte left", c.in)
	}
}

func (l *loop) kept() int { return l.budget - int(l.left.Load()) }

// A body's first buffer belongs to one request at a time.
func TestABuffersBodyHasOneOwner(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	a, b := &request{}, &request{}
	l.lendBody(a) // there is none
	if a.arriving != nil {
		t.Fatal("it was lent what is not there")
	}
	a.arriving = append(make([]byte, 0, firstBuffer), "{}"...)
	a.body = a.arriving
	l.takeBody(a)
	if a.arriving != nil || a.body != nil || len(l.bodies) != 1 {
		t.Fatalf("%q, %q, %d", a.arriving, a.body, len(l.bodies))
	}
	has := &request{arriving: make([]byte, 0, 10)}
	if l.lendBody(has); cap(has.arriving) != 10 || len(l.bodies) != 1 {
		t.Error("it has one, and was lent another")
	}
	l.lendBody(a)
	l.lendBody(b)
	if cap(a.arriving) != firstBuffer || len(a.arriving) != 0 || b.arriving != nil || len(l.bodies) != 0 {
		t.Errorf("%d, %d, %d", cap(a.arriving), cap(b.arriving), len(l.bodies))
	}
	b.arriving = make([]byte, firstBuffer+1)
	if l.takeBody(b); len(l.bodies) != 0 || b.arriving == nil {
		t.Error("a buffer of another size was taken")
	}
	for range spareBuffers + 1 {
		l.takeBody(&request{arriving: make([]byte, firstBuffer)})
	}
	if len(l.bodies) != spareBuffers {
		t.Errorf("%d are kept", len(l.bodies))
	}
}

// Those without a share go on in the order in which they came, each once, and those that
// are closed meanwhile do not.
func TestTheHungryAreFedInTheirOrder(t *testing.T) {
	log := newMemoryLog()
	l := handLoop(t, log, Options{})
	l.server.loops.Store(&[]*loop{l})
	restore := starve(l.server)
	l.left.Add(-1) // not even one is fed
	var clients []*conn
	var peers []*peer
	for i := range 4 {
		c, p := l.connect(t, post(fmt.Sprintf(`{"n":%d}`, i)))
		clients, peers = append(clients, c), append(peers, p)
		l.drive(c) // again
	}
	if len(l.hungry) != 4 || l.server.open.room.hungry.Load() != 4 {
		t.Fatalf("%d wait, %d are counted", len(l.hungry), l.server.open.room.hungry.Load())
	}
	l.close(clients[0])
	clients[1].waits = stepWrite // it is told something meanwhile
	if l.feed(); !l.starving.Load() || len(l.hungry) != 3 {
		t.Errorf("%d wait, starving %t", len(l.hungry), l.starving.Load())
	}
	restore()
	l.left.Add(1)
	if l.feed(); l.starving.Load() || len(l.hungry) != 0 {
		t.Errorf("%d wait, starving %t", len(l.hungry), l.starving.Load())
	}
	if want := []string{`{"n":2}`, `{"n":3}`}; fmt.Sprint(log.usages) != fmt.Sprint(want) {
		t.Errorf("stored %q", log.usages)
	}
	l.turn(t)
	for i, p := range peers {
		if got := p.received(); (got != "") != (i > 0) || clients[i].starving {
			t.Errorf("%d, which starves (%t): %q", i, clients[i].starving, got)
		}
	}
}

// No more than so many workers run at a time, and each job is done.
func TestSoManyWorkersRunAtATime(t *testing.T) {
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
	if w.running != maxWorkers || len(w.waiting) != maxWorkers {
		t.Errorf("%d run, %d wait", w.running, len(w.waiting))
	}
	waiting := w.waiting
	w.mu.Unlock()
	close(leave)
	done.Wait()
	for i := maxWorkers; i < 2*maxWorkers; i++ {
		if n := <-began; n < maxWorkers {
			t.Errorf("job %d is done twice", n)
		}
	}
	waitFor(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.running == 0 })
	if len(w.waiting) != 0 || waiting[0] != nil {
		t.Error("what is done is kept")
	}
}

// sendBuffer sets how much the kernel keeps of what is written, and returns how to read that.
func sendBuffer(t *testing.T, fd int) func() int {
	t.Helper()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, answerBuffer); err != nil {
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

// The kernel keeps more of a large answer than of others, and only as long as that is
// being written.
func TestOnlyALargeAnswerHasALargeBuffer(t *testing.T) {
	l := handLoop(t, newMemoryLog(), Options{})
	c, p := l.connect(t, "")
	buffer := sendBuffer(t, c.fd)
	small := buffer()
	p.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	l.turn(t)
	if p.received(); buffer() != small {
		t.Error("a small answer has a large buffer")
	}
	c.large, c.waits = make([]byte, 1<<20), stepWrite
	c.out = append(c.out, "x"...)
	if l.write(c) || buffer() <= small {
		t.Fatalf("a large answer has a buffer of %d bytes", buffer())
	}
	got := 0
	for range 100 {
		got += len(p.received())
		if l.write(c) {
			break
		}
	}
	got += len(p.received())
	if got != 1+1<<20 || buffer() != small || c.sent != 0 {
		t.Errorf("%d bytes have come, the buffer has %d, %d were sent", got, buffer(), c.sent)
	}
}

// It is the same for a connection that no loop drives.
func TestOnlyALargeAnswerHasALargeBufferWithoutALoop(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fds[1]), "client")
	defer client.Close()
	c := newServer(t, newMemoryLog(), Options{}).newConn(&socket{listener: &net.UnixAddr{}, fd: fds[0]})
	defer c.raw.Close()
	buffer := sendBuffer(t, fds[0])
	small := buffer()
	c.out, c.large = []byte("x"), make([]byte, 1<<20)
	written := make(chan error, 1)
	go func() { written <- c.write() }()
	waitFor(t, func() bool { return buffer() > small })
	if _, err := io.CopyN(io.Discard, client, 1+1<<20); err != nil {
		t.Error(err)
	}
	if err := <-written; err != nil || buffer() != small {
		t.Errorf("%v; the buffer has %d bytes", err, buffer())
	}
	c.large = nil
	if err := c.write(); err != nil || buffer() != small {
		t.Errorf("%v; the buffer has %d bytes", err, buffer())
	}
}

// postedFor is why the loop is to look at a connection. Timers post, too.
func (l *loop) postedFor(c *conn) reason {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.posted
}

// takeAll has the loop look at nothing.
func (l *loop) takeAll(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posted, c.posted = nil, 0
}
