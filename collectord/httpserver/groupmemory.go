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
//   - When there is no spare memory left, strangers are dropped, the oldest first, until
//     there is: closed at once with a reset and without an answer, so that the kernel frees
//     their buffers. Clients are never dropped.
const (
	// kernelConnBytes is the kernel's memory for a connection without its buffers.
	kernelConnBytes = 4 << 10
	// minAccepts is how many connections are accepted in minAcceptTime when strangers do not
	// hold the memory, so that clients get in.
	minAccepts    = 4
	minAcceptTime = 20 * time.Millisecond
	// leastFreed is how many bytes a stranger frees at least.
	leastFreed = kernelConnBytes
	// minDrops and maxDrops are how many strangers are being dropped at a time. Loops close
	// some hundred in a millisecond.
	minDrops = 16
	maxDrops = 1024
)

// spareMemory is guarded by the mutex of connections.
type spareMemory struct {
	limited bool      // otherwise any number of connections is accepted
	accepts int       // how many more connections may be accepted until the next call
	granted time.Time // when minAccepts were last allowed without memory for all of them
}

// maxBuffered returns how many bytes the kernel may use for a connection that is not read
// and does not read.
func (o *Options) maxBuffered() int64 {
	return int64(2*o.RequestBuffer + 2*sendBufferBytes + kernelConnBytes) // the kernel doubles the sizes
}

// SetSpareMemory sets how many more bytes the kernel's buffers may use. If it is negative,
// connections of strangers are dropped.
func (h *Server) SetSpareMemory(bytes int64) {
	for _, c := range h.conns.setSpare(bytes, h.opts.maxBuffered()) {
		c.reset()
	}
}

// setSpare returns the strangers that are to be reset: not with the mutex held, because the
// kernel then frees much memory.
func (s *connections) setSpare(bytes, each int64) (dropped []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.spare.limited, s.spare.accepts = true, int(min(max(bytes/each, 0), 1<<20))
	if bytes < 0 {
		dropped = s.dropStrangersLocked(now, int(min(max(-bytes/leastFreed, minDrops), maxDrops)))
	}
	blameless := s.dropping == 0 && s.plain.strangers.n+s.secure.strangers.n == 0
	if (bytes >= 0 || blameless) && s.spare.accepts < minAccepts && now.Sub(s.spare.granted) >= minAcceptTime {
		s.spare.accepts, s.spare.granted = minAccepts, now
	}
	s.descriptorFreed.Broadcast()
	return dropped
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

// dropStrangersLocked drops strangers until n are being dropped.
func (s *connections) dropStrangersLocked(now time.Time, n int) (dropped []*conn) {
	for s.dropping < n {
		c := s.takeStrangerLocked(s.deadline(now), connMinTime, []*connClass{&s.plain, &s.secure})
		if c == nil {
			break
		}
		s.room.closed[c.drop()].Add(1)
		s.room.closedForGroup.Add(1)
		s.dropping++
		dropped = append(dropped, c)
	}
	return dropped
}

// BodySpace returns how many bytes of memory request bodies may still take.
func (h *Server) BodySpace() int64 {
	h.inFlight.mu.Lock()
	defer h.inFlight.mu.Unlock()
	return int64(h.inFlight.free)
}

// ClosedForMemory returns how many connections of strangers were closed because the control
// group had little memory left.
func (h *Server) ClosedForMemory() uint64 { return h.conns.room.closedForGroup.Load() }

// AcceptsDelayed returns how often no connection was accepted for a while, because the
// control group had little memory left.
func (h *Server) AcceptsDelayed() uint64 { return h.conns.room.acceptsDelayed.Load() }
