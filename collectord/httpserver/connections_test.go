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

// expect checks that a queue contains these connections, in the order of push.
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
		t.Fatalf("%d connections from the head, %d from the tail, count %d, want the given %d", len(down), len(up), q.n, len(want))
	}
	for _, c := range want {
		if c.queue != q {
			t.Fatal("a connection has the wrong queue")
		}
	}
}

// A queue keeps its order when connections are removed or moved to its end.
func TestAQueueKeepsItsOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
		var q queue
		all := []*conn{{}, {}, {}}
		all[0].nextInQueue, all[0].prevInQueue = &conn{}, &conn{} // left by another queue
		for i, c := range all {
			q.push(c)
			q.expect(t, all[:i+1]...)
		}
		left := slices.Clone(all)
		for _, i := range order {
			c := all[i]
			c.requeue(7) // the others follow
			for _, other := range left {
				if other != c {
					other.requeue(8)
				}
			}
			left = append([]*conn{c}, slices.DeleteFunc(left, func(other *conn) bool { return other == c })...)
			q.expect(t, left...)
			if c.queuedSince != 7 {
				t.Errorf("queued since %d, want 7", c.queuedSince)
			}
		}
		left = slices.Clone(all)
		for _, c := range all {
			c.requeue(9)
		}
		for _, i := range order {
			for range 2 { // the second time it is in no queue
				all[i].dequeue()
			}
			if c := all[i]; c.queue != nil || c.prevInQueue != nil || c.nextInQueue != nil {
				t.Error("a removed connection is still in a queue")
			}
			left = slices.DeleteFunc(left, func(c *conn) bool { return c == all[i] })
			q.expect(t, left...)
		}
	}
}

// oldestStranger compares all given classes. Connections over TLS have their own class.
func TestTheOldestStrangerOfAllClasses(t *testing.T) {
	var s connections
	if oldestStranger([]*connClass{&s.plain, &s.secure}) != nil {
		t.Error("empty classes have a stranger")
	}
	plain, secure := &conn{}, &conn{secure: &tls.Conn{}}
	if s.classOf(plain) != &s.plain || s.classOf(secure) != &s.secure {
		t.Fatal("a connection has the wrong class")
	}
	s.secure.strangers.push(secure)
	for _, since := range [][2]int64{{1, 2}, {2, 1}} {
		plain.queuedSince, secure.queuedSince = since[0], since[1]
		if plain.queue == nil {
			if oldestStranger([]*connClass{&s.plain, &s.secure}) != secure {
				t.Error("the only stranger is not the oldest")
			}
			s.plain.strangers.push(plain)
		}
		want := plain
		if since[1] < since[0] {
			want = secure
		}
		if oldestStranger([]*connClass{&s.plain, &s.secure}) != want || oldestStranger([]*connClass{&s.secure, &s.plain}) != want {
			t.Errorf("queued since %v: another stranger is the oldest", since)
		}
	}
}

// At shutdown, idle connections end at once and others after their response. The channel is
// closed with the last one.
func TestIdleConnectionsEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &newServer(t, newMemoryLog(), Options{}).conns
		select {
		case <-s.shutDown():
		default:
			t.Error("without connections, the channel is not closed")
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
			t.Errorf("deadline of the idle connection %v, of the other %v; shutting down: %t", wires[stateIdle].deadline, wires[stateBody].deadline, s.shuttingDown.Load())
		}
		for _, c := range conns {
			select {
			case <-none:
				t.Error("the channel is closed with an open connection")
			default:
			}
			s.remove(c)
		}
		<-none
	})
}

// A sweep enforces passed deadlines, and logs after it has released the mutex.
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
			t.Errorf("before the deadline: set to %v, log %s", d.deadline, &log)
		}
		<-time.After(time.Second)
		s.room.turnedAway.Add(1)
		if s.sweep(); !d.deadline.Equal(time.Now()) || !strings.Contains(log.String(), "turned_away=1") {
			t.Errorf("after the deadline: set to %v, log %s", d.deadline, &log)
		}
	})
}
