package httpserver

import (
	"sync/atomic"
	"time"
)

// idleClient is the index in madeRoom, behind the states, of a client's idle connection.
// The states count strangers only.
const idleClient = states

// madeRoom maps the state of a connection that made room to its name in metrics.
var madeRoom = [states + 1]string{ //nolint:gochecknoglobals // a constant table
	stateOpening: "silent", stateHandshake: "handshake", stateIdle: "idle", stateHeader: "header",
	stateBody: "body", stateStoring: "body", stateWriting: "answer", stateLingering: "answer", idleClient: "client",
}

// roomCounters counts events while places or memory are short.
type roomCounters struct {
	made   [states + 1]atomic.Uint64
	away   atomic.Uint64
	secure atomic.Uint64 // times that only the places over TLS were taken
	relief atomic.Uint64 // strangers cut off because memory was short
	hungry atomic.Uint64 // reads that waited for memory
	waits  atomic.Uint64 // times that a listener waited for a descriptor

	// Guarded by the mutex of connections.
	reported roomCounts
	reached  bool      // the shortage was reported, and its end was not
	last     time.Time // when a sweep last saw the counters grow
}

type roomCounts struct{ made, away, hungry, waits, secure, starved uint64 }

func (r *roomCounters) now() (n roomCounts) {
	for i := range r.made {
		n.made += r.made[i].Load()
	}
	n.away, n.waits, n.secure, n.starved = r.away.Load(), r.waits.Load(), r.secure.Load(), r.relief.Load()
	n.hungry = r.hungry.Load()
	return n
}

// MadeRoom returns how many connections were closed to make room for others, by what they
// were doing.
func (h *Server) MadeRoom() map[string]uint64 {
	m := make(map[string]uint64, states)
	for s, name := range madeRoom {
		m[name] += h.open.room.made[s].Load()
	}
	return m
}

// TurnedAway returns how many connections were turned away because none could make room
// for them: closed, usually with a 503.
func (h *Server) TurnedAway() uint64 { return h.open.room.away.Load() }

// ReadsDelayed returns how often a connection had to wait before it was read, because no
// memory was left for its bytes.
func (h *Server) ReadsDelayed() uint64 { return h.open.room.hungry.Load() }

// calmAfter is how long no connection may make room before the trouble is reported as
// over.
const calmAfter = 2 * time.Second

// reportRoomLocked returns a function that logs what happened since the last sweep, or
// nil. One line for each connection would slow down the listener.
func (s *connections) reportRoomLocked(now time.Time) func() {
	r, counts, before := &s.room, s.room.now(), s.room.reported
	limits, logger := s.server.limits.Load(), s.server.opts.Logger
	switch {
	case counts != before:
		r.reported, r.reached, r.last = counts, true, now
		text := "connections make room or are turned away: http.max_connections is reached (raise it, or look for clients that hold connections and send nothing)"
		switch {
		case counts.starved > before.starved:
			text = "connections make room: the memory for what they have sent is taken (look for clients that send requests by halves)"
		case counts.hungry > before.hungry:
			text = "connections wait to be read: the memory for headers and small bodies is used up (look for clients that begin requests and do not end them)"
		case counts.secure > before.secure && counts.secure-before.secure >= counts.made-before.made+counts.away-before.away:
			text = "connections over TLS make room or are turned away: http.max_tls_connections is reached (raise it, or look for clients that hold connections and send nothing)"
		case limits.connections() < limits.MaxConnections:
			text = "connections make room or are turned away: no more file descriptors are left for them (raise LimitNOFILE=, or look for clients that hold connections and send nothing)"
		}
		return func() {
			logger.Warn(text, "trouble", "connections", "made_room", counts.made-before.made,
				"turned_away", counts.away-before.away, "reads_delayed", counts.hungry-before.hungry, "listeners_waited", counts.waits-before.waits)
		}
	case r.reached && now.Sub(r.last) >= calmAfter:
		r.reached = false
		return func() {
			logger.Info("no connection makes room or is turned away any more", "trouble", "connections")
		}
	}
	return nil
}
