package httpserver

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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

// Bounds on those who are turned away and still listened to.
const (
	maxLeaving  = 64
	leaveWithin = 500 * time.Millisecond
	leaveUnread = 64 << 10
)

// turnAway answers a connection that there is no room for, and closes it. It does
// not wait itself. With a configuration it speaks TLS.
//
// The answer comes once the client has begun its request, because clients may
// take one that comes before for an error; and the connection is closed once the
// client has done so, because closing it with bytes unread resets it, and the
// answer may be lost. Under a flood that can't be done for each of them.
func (s *connections) turnAway(c net.Conn, config *tls.Config) {
	p := noRoom()
	if !s.leave() {
		if config == nil {
			_ = c.SetWriteDeadline(time.Now().Add(briefly))
			writeRawResponse(c, p)
		}
		_ = c.Close()
		return
	}
	go func() {
		defer s.left(c)
		if c.SetDeadline(time.Now().Add(leaveWithin)) != nil {
			return
		}
		talk := c
		if config != nil {
			talk = tls.Server(&handshakeLimit{Conn: c, left: maxHandshake + leaveUnread}, config)
		}
		if _, err := io.CopyN(io.Discard, talk, 1); err != nil && config != nil {
			return // it would not understand
		}
		_ = c.SetWriteDeadline(time.Now().Add(briefly))
		writeRawResponse(talk, p)
		if half, ok := talk.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, c, leaveUnread)
		}
	}()
}

// noRoom is what whoever is turned away or cut off is told.
func noRoom() *problem {
	p := unavailable(CodeOverloaded, "too many connections are open (http.max_connections); nothing was stored")
	p.close = true
	return p
}

// briefly is how long a write may take that nobody waits for.
const briefly = 10 * time.Millisecond

// writeRawResponse answers where there is no server to do it.
func writeRawResponse(c net.Conn, p *problem) {
	body := p.body()
	more := ""
	if p.header[0] != "" {
		more = p.header[0] + ": " + p.header[1] + "\r\n"
	}
	fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		p.status, http.StatusText(p.status), problemType, more, len(body), body)
}
