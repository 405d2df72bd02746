package httpserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/http1"
)

// listeners are the server's listeners. After close, none is added.
type listeners struct {
	mu     sync.Mutex // guards the fields below
	all    []*listener
	closed bool
}

// listener is a net.Listener with a flag that it is closed.
type listener struct {
	net.Listener
	closed atomic.Bool
}

// add registers ln. It closes ln if the listeners are closed already.
func (l *listeners) add(ln net.Listener) *listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	added := &listener{Listener: ln}
	if l.closed {
		added.close()
	}
	l.all = append(l.all, added)
	return added
}

func (l *listeners) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, ln := range l.all {
		ln.close()
	}
}

func (l *listener) close() {
	l.closed.Store(true)
	_ = l.Listener.Close()
}

// Serve adopts ln and answers on it until StopListening or Shutdown, which close it. An
// error of ln ends it earlier.
func (h *Server) Serve(ln net.Listener) error {
	setSocketOptions(ln, h.opts.RequestBuffer)
	addr := ln.Addr()
	ln, err := adopt(ln)
	if _, sockets := ln.(*socketListener); err == nil && sockets {
		if err = h.startLoops(); err != nil {
			err = errors.Join(err, ln.Close())
		}
	}
	if err == nil {
		err = h.accept(h.listeners.add(ln))
	}
	if err != nil {
		return fmt.Errorf("http listener %s: %w", addr, err)
	}
	return nil
}

// accept accepts connections and starts driving each of them. If a connection gets no
// place, it gets a 503 instead, so that its client tries another server.
func (h *Server) accept(ln *listener) error {
	failing := false
	for {
		if !h.conns.awaitDescriptor(&ln.closed) {
			return nil
		}
		c, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case isOver(err):
			return err
		case err != nil:
			failing = true
			h.opts.Logger.Error("can't accept connections, and tries again (for open files, raise LimitNOFILE=)", "trouble", "accept", "address", ln.Addr(), "error", err)
			<-time.After(acceptPause)
			continue
		}
		if failing {
			failing = false
			h.opts.Logger.Info("connections are accepted again", "trouble", "accept", "address", ln.Addr())
		}
		if added := h.conns.add(c); added != nil {
			h.dispatch(added)
			continue
		}
		h.statuses[http.StatusServiceUnavailable].Add(1)
		h.conns.room.turnedAway.Add(1)
		h.conns.turnAway(c, h.policy.Load().Handshake(isLocal(c)), h.rawResponse(tooManyConnectionsProblem()))
	}
}

// acceptPause is how long a listener waits after an error that may pass.
const acceptPause = 100 * time.Millisecond

// isOver reports whether an error of accept(2) means that the listener can't accept any
// more. All others pass: they concern one connection, or a resource such as memory.
func isOver(err error) bool {
	return errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSOCK)
}

// Bytes of unread answers that the kernel buffers for a connection. By default it would
// buffer megabytes for a client that reads nothing, and the server would go on serving
// that client. The cgroup is charged for these buffers. So a connection has the larger
// one only while it sends a large answer, which counts as in flight.
const (
	sendBufferBytes      = 4 << 10
	largeSendBufferBytes = 64 << 10
)

// setSendBuffer sets the send buffer of a socket, or of a listener whose connections
// inherit it.
func setSendBuffer(fd uintptr, size int) {
	_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, size) // on failure the kernel's default applies
}

// setSendBuffer sets the send buffer of a connection that no loop drives.
func (c *conn) setSendBuffer(size int) {
	if raw, err := c.descriptor(); err == nil {
		_ = raw.Control(func(fd uintptr) { setSendBuffer(fd, size) })
	}
}

// maxCutAnswer is how many bytes may be unsent when a connection that was cut off is closed:
// its 503, and a little more.
const maxCutAnswer = 1 << 10

// dropUnreadAnswer makes the kernel reset a connection when it is closed, if the client does
// not read its answer. Otherwise the kernel would keep the answer for minutes after the
// connection is closed, and strangers could fill the memory with closed connections.
func (c *conn) dropUnreadAnswer(fd uintptr) {
	unread := c.unwritable
	if c.hold.Load() == holdTaken {
		n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		unread = unread || err == nil && n > maxCutAnswer
	}
	if unread {
		resetOnClose(fd)
	}
}

// resetOnClose makes the kernel reset a connection when it is closed.
func resetOnClose(fd uintptr) {
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // fails only for a closed socket
}

// setRequestBuffer sets the receive buffer of a listener whose connections inherit it.
// SO_RCVBUF also locks the buffer, which would fix its size and the window scale of the
// handshake. So the lock is removed. A kernel before 5.14 can't remove it, and neither
// can multipath TCP: both keep their default size.
func setRequestBuffer(fd uintptr, size int) {
	if unlockRequestBuffer(fd) == nil {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		_ = unlockRequestBuffer(fd)
	}
}

// unlockRequestBuffer lets the kernel adjust the receive buffer, but not the send buffer.
func unlockRequestBuffer(fd uintptr) error {
	const sendLock = 1 // SOCK_SNDBUF_LOCK
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BUF_LOCK, sendLock)
}

// deferAcceptSeconds is how many seconds the kernel holds back a connection that sends
// nothing.
const deferAcceptSeconds = 1

// setSocketOptions sets socket options that connections inherit on Linux: the buffers,
// TCP_NODELAY, and TCP_DEFER_ACCEPT. With the last, a connection is accepted with its
// first bytes, which saves a second wake-up. A silent connection is accepted after
// deferAcceptSeconds, and only then takes a place of MaxConnections and has its
// HeaderTimeout. A failure leaves the kernel's defaults.
func setSocketOptions(ln net.Listener, requestBuffer int) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			setSendBuffer(fd, sendBufferBytes)
			setRequestBuffer(fd, requestBuffer)
			// unix sockets have neither option
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAcceptSeconds)
		})
	}
}

// Limits of connections that are turned away: their number, time and unread bytes.
const (
	maxTurnAways  = 64
	turnAwayTime  = 500 * time.Millisecond // the limit in the table at the type state
	turnAwayBytes = 64 << 10
)

// turnAway answers a connection for which there is no place, and closes it. It does not
// block. With a config it uses TLS.
//
// The answer follows the first byte of the request, because some clients take an earlier
// answer for an error. The connection is closed after the client has closed it. Closing it
// with unread bytes would reset it, and the answer might be lost. If beginTurnAway reports
// false, the answer is written without waiting; over TLS there is no answer.
func (s *connections) turnAway(c net.Conn, config *tls.Config, answer []byte) {
	if !s.beginTurnAway() {
		if config == nil {
			writeNow(c, answer)
		}
		_ = c.Close()
		return
	}
	go func() {
		defer s.endTurnAway(c)
		if c.SetDeadline(time.Now().Add(turnAwayTime)) != nil {
			return
		}
		stream := c
		if config != nil {
			stream = tls.Server(&handshakeLimit{Conn: c, bytesLeft: maxHandshake + turnAwayBytes}, config)
		}
		switch _, err := io.CopyN(io.Discard, stream, 1); {
		case err == nil:
			_, _ = stream.Write(answer) // the client may be gone
		case config == nil:
			writeNow(c, answer) // the time is over
		default:
			return // a TLS client would not understand plain text
		}
		if half, ok := stream.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, c, turnAwayBytes)
		}
	}()
}

// tooManyConnectionsProblem returns the problem for a connection that is turned away or cut
// off.
func tooManyConnectionsProblem() *problem {
	p := unavailable(CodeOverloaded, "too many connections are open (http.max_connections, http.max_tls_connections); nothing was stored")
	p.close = true
	return p
}

// rawResponse returns a complete answer for a connection without a conn.
func (h *Server) rawResponse(p *problem) []byte {
	none := http1.New(0)
	a, body := p.response(h.opts.ProblemBase)
	a.Close, a.Length = true, len(body)
	return append(none.AppendResponse(nil, &a), body...)
}

// writeNow writes as much as the kernel accepts without blocking, which is all of a
// first answer. A connection without a descriptor gets nothing.
func writeNow(c net.Conn, b []byte) {
	if s, ok := c.(*socket); ok {
		if _, err := s.tryNow(syscall.Write, b); !errors.Is(err, syscall.EAGAIN) {
			return // the runtime's poller need not register the socket
		}
	}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _, _ = syscall.Write(int(fd), b) })
		}
	}
}
