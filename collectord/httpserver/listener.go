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

// listeners are those of a server, of which there will be no more once they are closed.
type listeners struct {
	mu     sync.Mutex // guards what follows
	all    []*listener
	closed bool
}

// listener is one of them.
type listener struct {
	net.Listener
	closed atomic.Bool
}

// add takes in ln, which it closes if it comes too late.
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

// Serve takes ln over and answers on it until StopListening or Shutdown.
func (h *Server) Serve(ln net.Listener) error {
	prepare(ln)
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

// accept has each connection served by a goroutine. Those that there is no room
// for are told so: a client that is merely cut off would not know to go elsewhere.
func (h *Server) accept(ln *listener) error {
	failing := false
	for {
		if !h.open.awaitDescriptor(&ln.closed) {
			return nil
		}
		c, err := ln.Accept()
		switch {
		case isPassing(err):
			failing = true
			h.opts.Logger.Error("can't accept connections: the kernel or the process lacks what the error names (if it is open files, raise LimitNOFILE=)", "trouble", "accept", "address", ln.Addr(), "error", err)
			<-time.After(acceptPause)
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		if failing {
			failing = false
			h.opts.Logger.Info("connections are accepted again", "trouble", "accept", "address", ln.Addr())
		}
		if added := h.open.add(c); added != nil {
			h.dispatch(added)
			continue
		}
		h.statuses[http.StatusServiceUnavailable].Add(1)
		h.open.room.away.Add(1)
		h.open.turnAway(c, h.policy.Load().Handshake(isLocal(c)), h.rawResponse(noRoom()))
	}
}

// acceptPause is how long a listener waits for others to give back what it lacks.
const acceptPause = 100 * time.Millisecond

// isPassing reports whether accept(2) may work again by itself.
func isPassing(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// What the kernel keeps of answers that a client does not take. By itself it would keep
// megabytes, and the client be served all that time. It is memory of the daemon's cgroup,
// so that there is little for each connection, and more only for a large answer, which is
// counted as in flight.
const (
	answerBuffer      = 4 << 10
	largeAnswerBuffer = 64 << 10
)

// setAnswerBuffer is for a socket, or a listener whose connections inherit it.
func setAnswerBuffer(fd uintptr, size int) {
	_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, size) // it is slower with less
}

// bufferAnswer changes the bound for a connection that no loop drives.
func (c *conn) bufferAnswer(size int) {
	if sc, ok := c.raw.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { setAnswerBuffer(fd, size) })
		}
	}
}

// deferAcceptSeconds is how many seconds the kernel keeps a connection that says nothing.
const deferAcceptSeconds = 1

// prepare sets what connections have from their listener on Linux: the bound of
// their send buffer, that what is written leaves at once, and that they are
// handed over with their first bytes, which saves waking up for each of them
// twice. One that says nothing is handed over after deferAcceptSeconds, and then has its
// HeaderTimeout; until then it takes none of MaxConnections, only a place in the
// listener's queue. Where that fails they are as they are.
func prepare(ln net.Listener) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			setAnswerBuffer(fd, answerBuffer)
			// The others are not of unix sockets.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAcceptSeconds)
		})
	}
}

// Bounds on those who are turned away and still listened to.
const (
	maxLeaving  = 64
	leaveWithin = 500 * time.Millisecond // as the table at the type state has it
	leaveUnread = 64 << 10
)

// turnAway answers a connection that there is no room for, and closes it. It does
// not wait itself. With a configuration it speaks TLS.
//
// The answer comes once the client has begun its request, because clients may
// take one that comes before for an error; and the connection is closed once the
// client has done so, because closing it with bytes unread resets it, and the
// answer may be lost. Under a flood that can't be done for each of them.
func (s *connections) turnAway(c net.Conn, config *tls.Config, answer []byte) {
	if !s.leave() {
		if config == nil {
			writeAtOnce(c, answer)
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
		switch _, err := io.CopyN(io.Discard, talk, 1); {
		case err == nil:
			_, _ = talk.Write(answer) // the client may be gone
		case config == nil:
			writeAtOnce(c, answer) // there is no more time
		default:
			return // it would not understand
		}
		if half, ok := talk.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, c, leaveUnread)
		}
	}()
}

// noRoom is what whoever is turned away or cut off is told.
func noRoom() *problem {
	p := unavailable(CodeOverloaded, "too many connections are open (http.max_connections, http.max_tls_connections); nothing was stored")
	p.close = true
	return p
}

// rawResponse is the answer to a connection that nobody serves.
func (h *Server) rawResponse(p *problem) []byte {
	none := http1.New(0)
	a, body := p.answer(h.opts.ProblemBase)
	a.Close, a.Length = true, len(body)
	return append(none.AppendAnswer(nil, &a), body...)
}

// writeAtOnce writes what the kernel takes without waiting: all of a first answer. Whatever
// has no descriptor gets none.
func writeAtOnce(c net.Conn, b []byte) {
	if s, ok := c.(*socket); ok {
		if _, err := s.atOnce(syscall.Write, b); !errors.Is(err, syscall.EAGAIN) {
			return // and the poller need not know it
		}
	}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _, _ = syscall.Write(int(fd), b) })
		}
	}
}
