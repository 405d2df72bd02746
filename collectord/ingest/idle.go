package ingest

import (
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// idleAfter is how long nothing must have been under way on a connection before
// it may have to make room: one in steady use is left alone.
const idleAfter = time.Second

// lookAt is how many connections are looked at to find the one that has been
// idle longest. With more than that open, it is one of the longest.
const lookAt = 1024

// makeRoomLocked has an idle connection end, and reports whether there was one.
// It is not closed but woken: a request that has been read meanwhile is answered.
func (s *connections) makeRoomLocked() bool {
	latest := s.deadline(time.Now().Add(-idleAfter))
	var idle *connection
	looked := 0
	for c := range s.open {
		if looked++; looked > lookAt {
			break
		}
		since := c.idleSince.Load()
		if since == 0 || since > latest || c.ending || idle != nil && since >= idle.idleSince.Load() {
			continue
		}
		if unread(c.Conn) {
			continue
		}
		idle = c
	}
	if idle == nil {
		return false
	}
	idle.ending = true
	s.ending++
	_ = idle.Conn.SetReadDeadline(time.Now())
	return true
}

// unread reports whether something has arrived that nobody has read yet.
func unread(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	waiting := 0
	if err := raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }); err != nil {
		return false
	}
	return waiting > 0
}

// Bounds on the goodbye to a connection that is turned away.
const (
	maxLeaving  = 64
	leaveWithin = 500 * time.Millisecond
	leaveUnread = 64 << 10
)

// leave closes a connection once the client has done so, or soon. Closing with
// bytes unread resets it, and the client may then never see what was answered.
// Under a flood of connections that can't be helped for each of them.
func (s *connections) leave(c net.Conn) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		_ = c.Close()
		return
	}
	if s.leaving.Add(1) > maxLeaving {
		s.leaving.Add(-1)
		_ = c.Close()
		return
	}
	go func() {
		defer s.leaving.Add(-1)
		defer c.Close()
		if c.SetReadDeadline(time.Now().Add(leaveWithin)) == nil {
			_, _ = io.CopyN(io.Discard, c, leaveUnread)
		}
	}()
}
