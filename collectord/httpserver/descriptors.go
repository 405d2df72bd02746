package httpserver

import (
	"math"
	"net"
	"sync/atomic"
	"time"
)

// spare is how many of MaxDescriptors are for connections that are closing: they
// make room, linger, or are turned away.
func (l *Limits) spare() int {
	return min(maxLeaving+64, l.MaxDescriptors/4)
}

// connections is how many may be open at a time, beside those that are closing.
func (l *Limits) connections() int { return min(l.MaxConnections, l.bearable()) }

// bearable is how many connections there are descriptors for.
func (l *Limits) bearable() int {
	if l.MaxDescriptors == 0 {
		return math.MaxInt
	}
	return max(1, l.MaxDescriptors-l.spare())
}

// leaving is how many who are turned away are listened to.
func (l *Limits) leaving() int32 {
	if l.MaxDescriptors == 0 {
		return maxLeaving
	}
	return int32(min(maxLeaving, l.spare()/2))
}

// MaxConnections returns how many connections may be open: what was configured,
// or fewer where MaxDescriptors allows no more.
func (h *Server) MaxConnections() int { return h.limits.Load().connections() }

// awaitDescriptor waits until a listener may accept a connection, and reports
// false once the listener is closed. Accepting is the one thing that takes a
// descriptor whenever a stranger likes, so that it must not happen beyond
// MaxDescriptors: the log could open no file then.
//
// Each listener may accept one at a time, so that there may be one more for each:
// whoever sets MaxDescriptors counts that in.
func (s *connections) awaitDescriptor(closed *atomic.Bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !closed.Load() {
		limits := s.server.limits.Load()
		used := len(s.open) + int(s.leaving.Load())
		if limits.MaxDescriptors == 0 || used < limits.MaxDescriptors {
			return true
		}
		s.room.waits.Add(1)
		s.freed.Wait()
	}
	return false
}

// shrinkLocked has connections make room for which there are no descriptors any
// more: the limit was lowered.
func (s *connections) shrinkLocked() {
	most := s.server.limits.Load().bearable()
	for len(s.open)-s.ending > most && s.makeRoomLocked(most) {
	}
}

// wakeListeners has those that wait for a descriptor look again.
func (s *connections) wakeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freed.Broadcast()
}

// leave counts a connection that is turned away, if there is room to listen to it.
func (s *connections) leave() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving.Load() >= s.server.limits.Load().leaving() {
		return false
	}
	s.leaving.Add(1)
	return true
}

// left closes a connection that leave counted.
func (s *connections) left(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving.Add(-1)
	s.freed.Signal()
}

// idleClient stands beside the states of strangers that make room: a client that is
// idle after a request that was authenticated or stored.
const idleClient = states

// madeRoom names what a connection that made room was doing, by state.
var madeRoom = [states + 1]string{ //nolint:gochecknoglobals // a constant table
	stateOpening: "silent", stateHandshake: "handshake", stateIdle: "idle", stateHeader: "header",
	stateBody: "body", stateStoring: "body", stateWriting: "answer", stateLingering: "answer", idleClient: "client",
}

// roomCounters count what happens when all places are taken.
type roomCounters struct {
	made  [states + 1]atomic.Uint64
	away  atomic.Uint64
	waits atomic.Uint64 // of listeners, for a descriptor

	// Guarded by the mutex of connections.
	reported roomCounts
	reached  bool      // it was reported, and is not over yet
	last     time.Time // when the counters were seen to grow
}

type roomCounts struct{ made, away, waits uint64 }

func (r *roomCounters) now() (n roomCounts) {
	for i := range r.made {
		n.made += r.made[i].Load()
	}
	n.away, n.waits = r.away.Load(), r.waits.Load()
	return n
}

// MadeRoom returns how many connections were closed to make room for others, by
// what they were doing.
func (h *Server) MadeRoom() map[string]uint64 {
	m := make(map[string]uint64, states)
	for s, name := range madeRoom {
		m[name] += h.open.room.made[s].Load()
	}
	return m
}

// TurnedAway returns how many connections were answered 503 and closed because
// none could make room for them.
func (h *Server) TurnedAway() uint64 { return h.open.room.away.Load() }

// calmAfter is how long no connection must have made room until the trouble is
// over.
const calmAfter = 2 * time.Second

// reportRoomLocked returns how to log what has happened since the sweep before, or
// nil. To log each connection would slow down the listener.
func (s *connections) reportRoomLocked(now time.Time) func() {
	r, counts, before := &s.room, s.room.now(), s.room.reported
	limits, logger := s.server.limits.Load(), s.server.opts.Logger
	switch {
	case counts != before:
		r.reported, r.reached, r.last = counts, true, now
		text := "connections make room or are turned away: http.max_connections is reached (raise it, or look for clients that hold connections and send nothing)"
		if limits.connections() < limits.MaxConnections {
			text = "connections make room or are turned away: no more file descriptors are left for them (raise LimitNOFILE=, or look for clients that hold connections and send nothing)"
		}
		return func() {
			logger.Warn(text, "trouble", "connections", "made_room", counts.made-before.made,
				"turned_away", counts.away-before.away, "listeners_waited", counts.waits-before.waits)
		}
	case r.reached && now.Sub(r.last) >= calmAfter:
		r.reached = false
		return func() {
			logger.Info("no connection makes room or is turned away any more", "trouble", "connections")
		}
	}
	return nil
}
