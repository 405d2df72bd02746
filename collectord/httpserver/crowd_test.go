package httpserver

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// expect expects that a queue holds these connections, the one that was pushed first ahead.
func (q *queue) expect(t *testing.T, want ...*conn) {
	t.Helper()
	var down, up []*conn
	for c := q.head; c != nil && len(down) < 10; c = c.nextInQueue {
		down = append(down, c)
	}
	for c := q.tail; c != nil && len(up) < 10; c = c.prevInQueue {
		up = append(up, c)
	}
	slices.Reverse(up)
	if !slices.Equal(down, want) || !slices.Equal(up, want) || q.n != len(want) {
		t.Fatalf("%d from its head, %d from its tail, %d are counted: not the %d that it holds", len(down), len(up), q.n, len(want))
	}
	for _, c := range want {
		if c.queue != q {
			t.Fatal("a connection does not know its queue")
		}
	}
}

// A queue keeps its order, whoever leaves it.
func TestAQueueKeepsItsOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
		var q queue
		all := []*conn{{}, {}, {}}
		all[0].nextInQueue, all[0].prevInQueue = &conn{}, &conn{} // of another queue, before
		for i, c := range all {
			q.push(c)
			q.expect(t, all[:i+1]...)
		}
		left := slices.Clone(all)
		for _, i := range order {
			c := all[i]
			c.requeue(7) // and others after that
			for _, other := range left {
				if other != c {
					other.requeue(8)
				}
			}
			left = append([]*conn{c}, slices.DeleteFunc(left, func(other *conn) bool { return other == c })...)
			q.expect(t, left...)
			if c.queuedSince != 7 {
				t.Errorf("since %d", c.queuedSince)
			}
		}
		left = slices.Clone(all)
		for _, c := range all {
			c.requeue(9)
		}
		for _, i := range order {
			for range 2 { // the second time it is in none
				all[i].dequeue()
			}
			if c := all[i]; c.queue != nil || c.prevInQueue != nil || c.nextInQueue != nil {
				t.Error("who has left is in it still")
			}
			left = slices.DeleteFunc(left, func(c *conn) bool { return c == all[i] })
			q.expect(t, left...)
		}
	}
}

// The oldest stranger is that of all crowds, and TLS has a crowd of its own.
func TestTheOldestStrangerOfAllClasses(t *testing.T) {
	var s connections
	if oldestStranger([]*connClass{&s.plain, &s.secure}) != nil {
		t.Error("there is nobody")
	}
	plain, secure := &conn{}, &conn{secure: &tls.Conn{}}
	if s.classOf(plain) != &s.plain || s.classOf(secure) != &s.secure {
		t.Fatal("they are in the wrong crowd")
	}
	s.secure.strangers.push(secure)
	for _, since := range [][2]int64{{1, 2}, {2, 1}} {
		plain.queuedSince, secure.queuedSince = since[0], since[1]
		if plain.queue == nil {
			if oldestStranger([]*connClass{&s.plain, &s.secure}) != secure {
				t.Error("the only one is not the oldest")
			}
			s.plain.strangers.push(plain)
		}
		want := plain
		if since[1] < since[0] {
			want = secure
		}
		if oldestStranger([]*connClass{&s.plain, &s.secure}) != want || oldestStranger([]*connClass{&s.secure, &s.plain}) != want {
			t.Errorf("of %v it is another", since)
		}
	}
}

// When the server shuts down, whoever is idle ends at once, and others with their answers;
// then nobody is left.
func TestIdleConnectionsEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &newServer(t, newMemoryLog(), Options{}).conns
		select {
		case <-s.shutDown():
		default:
			t.Error("nobody is there to be waited for")
		}
		wires := map[state]*deadlineConn{}
		conns := map[state]*conn{}
		s.open = map[*conn]struct{}{}
		for _, in := range []state{stateIdle, stateBody} {
			wires[in] = &deadlineConn{}
			conns[in] = s.server.newConn(wires[in])
			conns[in].idleSince.Store(1)
			conns[in].enter(in)
			s.open[conns[in]] = struct{}{}
		}
		<-time.After(time.Second)
		none := s.shutDown()
		if !wires[stateIdle].deadline.Equal(time.Now()) || !wires[stateBody].deadline.IsZero() || !s.shuttingDown.Load() {
			t.Errorf("who is idle has until %v, others until %v; it closes: %t", wires[stateIdle].deadline, wires[stateBody].deadline, s.shuttingDown.Load())
		}
		for _, c := range conns {
			select {
			case <-none:
				t.Error("somebody is left")
			default:
			}
			s.remove(c)
		}
		<-none
	})
}

// A sweep ends what has passed, and logs who made room once it holds no lock.
func TestASweepEnforcesDeadlinesAndLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &newServer(t, newMemoryLog(), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}).conns
		log.Reset()
		s.sweepTimer = time.AfterFunc(time.Hour, func() {})
		defer s.sweepTimer.Stop()
		d := &deadlineConn{}
		c := s.server.newConn(d)
		s.open = map[*conn]struct{}{c: {}}
		c.enterUntil(stateBody, time.Now().Add(time.Second))
		if s.sweep(); !d.deadline.IsZero() || log.Len() > 0 {
			t.Errorf("nothing has passed, and it has until %v: %s", d.deadline, &log)
		}
		<-time.After(time.Second)
		s.room.turnedAway.Add(1)
		if s.sweep(); !d.deadline.Equal(time.Now()) || !strings.Contains(log.String(), "turned_away=1") {
			t.Errorf("its time has passed, and it has until %v: %s", d.deadline, &log)
		}
	})
}
