package httpserver

import (
	"sync/atomic"
	"time"
)

// idleClient is the index in closedForRoomNames, after the states, of a client's idle
// connection. The states count strangers only.
const idleClient = states

// closedForRoomNames maps the state of a connection that made room to its name in metrics.
var closedForRoomNames = [states + 1]string{ //nolint:gochecknoglobals // a constant table
	stateOpening: "silent", stateHandshake: "handshake", stateIdle: "idle", stateHeader: "header",
	stateBody: "body", stateStoring: "body", stateWriting: "answer", stateLingering: "answer", idleClient: "client",
}

// roomCounters counts events while places or memory are short.
type roomCounters struct {
	closed             [states + 1]atomic.Uint64
	turnedAway         atomic.Uint64
	secureLimitReached atomic.Uint64 // times that only the places over TLS were taken
	closedForMemory    atomic.Uint64 // strangers cut off because memory was short
	closedForGroup     atomic.Uint64 // strangers cut off because the control group had little memory left
	readsDelayed       atomic.Uint64 // reads that waited for memory
	acceptsDelayed     atomic.Uint64 // times that no connection was accepted because the control group had little memory left
	listenerWaits      atomic.Uint64 // times that a listener waited for a descriptor

	// Guarded by the mutex of connections.
	reported         roomCounts
	shortageReported bool      // the shortage was reported, and its end was not
	lastChange       time.Time // when a sweep last saw the counters grow
}

type roomCounts struct{ closed, turnedAway, readsDelayed, listenerWaits, secureLimitReached, closedForMemory, closedForGroup, acceptsDelayed uint64 }

func (r *roomCounters) snapshot() (n roomCounts) {
	for i := range r.closed {
		n.closed += r.closed[i].Load()
	}
	n.turnedAway, n.listenerWaits, n.secureLimitReached, n.closedForMemory = r.turnedAway.Load(), r.listenerWaits.Load(), r.secureLimitReached.Load(), r.closedForMemory.Load()
	n.readsDelayed, n.closedForGroup, n.acceptsDelayed = r.readsDelayed.Load(), r.closedForGroup.Load(), r.acceptsDelayed.Load()
	return n
}

// ClosedForRoom returns how many connections were closed to make room for others, by the
// names in closedForRoomNames.
func (h *Server) ClosedForRoom() map[string]uint64 {
	m := make(map[string]uint64, states)
	for s, name := range closedForRoomNames {
		m[name] += h.conns.room.closed[s].Load()
	}
	return m
}

// TurnedAway returns how many connections were turned away because none could make room
// for them: closed, usually with a 503.
func (h *Server) TurnedAway() uint64 { return h.conns.room.turnedAway.Load() }

// ReadsDelayed returns how often a connection had to wait before it was read, because no
// memory was left for its bytes.
func (h *Server) ReadsDelayed() uint64 { return h.conns.room.readsDelayed.Load() }

// calmAfter is how long no connection may make room before the trouble is reported as
// over.
const calmAfter = 2 * time.Second

// reportRoomLocked returns a function that logs what happened since the last sweep, or
// nil. One line for each connection would slow down the listener.
func (s *connections) reportRoomLocked(now time.Time) func() {
	r, counts, before := &s.room, s.room.snapshot(), s.room.reported
	limits, logger := s.server.limits.Load(), s.server.opts.Logger
	switch {
	case counts != before:
		r.reported, r.shortageReported, r.lastChange = counts, true, now
		text := "connections make room or are turned away: http.max_connections is reached (raise it, or look for clients that hold connections and send nothing)"
		switch {
		case counts.closedForGroup > before.closedForGroup:
			text = "connections make room: little memory is left of the control group's limit (raise MemoryMax= or the container's limit, lower http.max_connections, or look for clients that begin requests and do not complete them)"
		case counts.acceptsDelayed > before.acceptsDelayed:
			text = "connections wait to be accepted: little memory is left of the control group's limit (raise MemoryMax= or the container's limit, or look for clients that begin requests and do not complete them)"
		case counts.closedForMemory > before.closedForMemory:
			text = "connections make room: the memory for received bytes is used up (look for clients that begin requests and do not complete them)"
		case counts.readsDelayed > before.readsDelayed:
			text = "connections wait to be read: the memory for headers and small bodies is used up (look for clients that begin requests and do not complete them)"
		case counts.secureLimitReached > before.secureLimitReached && counts.secureLimitReached-before.secureLimitReached >= counts.closed-before.closed+counts.turnedAway-before.turnedAway:
			text = "connections over TLS make room or are turned away: http.max_tls_connections is reached (raise it, or look for clients that hold connections and send nothing)"
		case limits.maxOpen() < limits.MaxConnections:
			text = "connections make room or are turned away: no more file descriptors are left for them (raise LimitNOFILE=, or look for clients that hold connections and send nothing)"
		}
		return func() {
			logger.Warn(text, "trouble", "connections", "made_room", counts.closed-before.closed,
				"turned_away", counts.turnedAway-before.turnedAway, "reads_delayed", counts.readsDelayed-before.readsDelayed, "listeners_waited", counts.listenerWaits-before.listenerWaits)
		}
	case r.shortageReported && now.Sub(r.lastChange) >= calmAfter:
		r.shortageReported = false
		return func() {
			logger.Info("no connection makes room or is turned away any more", "trouble", "connections")
		}
	}
	return nil
}
