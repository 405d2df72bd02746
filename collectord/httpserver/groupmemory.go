package httpserver

import (
	"sync/atomic"
	"time"
)

// Strangers can fill the kernel's buffers of their connections: with bytes that the server
// does not read, and with answers that they do not read. Where this memory counts as that of
// the process, the kernel kills the process once the limit is reached. SetSpareMemory prevents
// that in two ways, and package main calls it many times a second:
//
//   - No more connections are accepted than the spare memory suffices for. The bytes of
//     connections that are not accepted do not count.
//   - When there is no spare memory left, strangers are cut off, the oldest first, until
//     there is. Clients never make room for memory.
const (
	// kernelConnBytes is the kernel's memory for a connection without its buffers.
	kernelConnBytes = 4 << 10
	// minAccepts is how many connections are always accepted in minAcceptTime, so that clients
	// get in even if strangers are not the reason for the lack.
	minAccepts    = 4
	minAcceptTime = 20 * time.Millisecond
	// minCut is how many strangers are cut off at a time, at least.
	minCut = 16
	// leastFreed is how many bytes a stranger frees, if it holds little.
	leastFreed = 4 << 10
)

// spareMemory is guarded by the mutex of connections.
type spareMemory struct {
	limited bool      // otherwise any number of connections is accepted
	accepts int       // how many more connections may be accepted until the next call
	granted time.Time // when minAccepts were last allowed without memory for them
}

// maxBuffered returns how many bytes the kernel may use for a connection that is not read
// and does not read.
func (o *Options) maxBuffered() int64 {
	return int64(2*o.RequestBuffer + 2*sendBufferBytes + kernelConnBytes) // the kernel doubles the sizes
}

// SetSpareMemory sets how many more bytes the kernel's buffers may use. If it is negative,
// connections of strangers make room.
func (h *Server) SetSpareMemory(bytes int64) {
	s, each := &h.conns, h.opts.maxBuffered()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare.limited, s.spare.accepts = true, int(min(max(bytes/each, 0), 1<<20))
	if now := time.Now(); s.spare.accepts < minAccepts && now.Sub(s.spare.granted) >= minAcceptTime {
		s.spare.accepts, s.spare.granted = minAccepts, now
	}
	if bytes < 0 {
		s.cutForGroupLocked(max(minCut, int(min(-bytes/leastFreed, maxEndingForMemory))))
	}
	s.descriptorFreed.Broadcast()
}

// UnlimitMemory ends the effect of SetSpareMemory.
func (h *Server) UnlimitMemory() {
	s := &h.conns
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = spareMemory{}
	s.descriptorFreed.Broadcast()
}

// SpareWanted has an element once a listener waits for the next call of SetSpareMemory.
func (h *Server) SpareWanted() <-chan struct{} { return h.conns.spareWanted }

// awaitSpareLocked waits until the memory suffices for one more connection.
func (s *connections) awaitSpareLocked(closed *atomic.Bool) {
	if s.spare.limited && s.spare.accepts <= 0 {
		s.room.acceptsDelayed.Add(1)
		select {
		case s.spareWanted <- struct{}{}:
		default:
		}
	}
	for s.spare.limited && s.spare.accepts <= 0 && !closed.Load() {
		s.descriptorFreed.Wait()
	}
	s.spare.accepts--
}

// cutForGroupLocked cuts off n strangers, or fewer if as many are ending already.
func (s *connections) cutForGroupLocked(n int) {
	now := s.deadline(time.Now())
	s.cuttingForMemory = true
	for s.endingForMemory < n && s.cutStrangerLocked(now, connMinTime, []*connClass{&s.plain, &s.secure}) {
		s.room.closedForGroup.Add(1)
	}
	s.cuttingForMemory = false
}

// ClosedForMemory returns how many connections of strangers were closed because the control
// group had little memory left.
func (h *Server) ClosedForMemory() uint64 { return h.conns.room.closedForGroup.Load() }

// AcceptsDelayed returns how often no connection was accepted for a while, because the
// control group had little memory left.
func (h *Server) AcceptsDelayed() uint64 { return h.conns.room.acceptsDelayed.Load() }
