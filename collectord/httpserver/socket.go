package httpserver

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketListener accepts connections of TCP and unix sockets.
//
// It uses package syscall instead of x/sys/unix. The accept4 of x/sys/unix makes an extra
// system call, and the race detector sees no order between reads and writes of x/sys/unix
// and those of package net.
type socketListener struct {
	addr         net.Addr
	file         *os.File
	raw          syscall.RawConn
	unixListener *net.UnixListener // its Close removes the socket's file if required; nil for TCP
	closed       atomic.Bool
}

// adopt turns a listener of TCP or unix sockets into a socketListener. It closes a TCP
// listener at once; a unix listener is closed with the result, since its Close removes
// the socket's file. It returns other listeners unchanged.
func adopt(ln net.Listener) (net.Listener, error) {
	from, ok := ln.(interface{ File() (*os.File, error) })
	if !ok {
		return ln, nil
	}
	file, err := from.File() // a duplicate of the descriptor
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	named, local := ln.(*net.UnixListener)
	if err == nil && !local {
		err = ln.Close()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &socketListener{addr: ln.Addr(), file: file, raw: raw, unixListener: named}, nil
}

func (l *socketListener) Accept() (net.Conn, error) {
	var fd int
	var failed error
	err := l.raw.Read(func(listener uintptr) bool {
		for {
			fd, _, failed = syscall.Accept4(int(listener), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			if !errors.Is(failed, syscall.EINTR) && !errors.Is(failed, syscall.ECONNABORTED) {
				return !errors.Is(failed, syscall.EAGAIN)
			}
		}
	})
	switch {
	case err == nil && failed == nil:
		if l.unixListener != nil {
			setSendBuffer(uintptr(fd), sendBufferBytes) // unix sockets do not inherit it
		}
		return &socket{listener: l.addr, fd: fd}, nil
	case l.closed.Load():
		err = net.ErrClosed
	case err == nil:
		err = failed
	}
	return nil, socketError("accept", err)
}

func (l *socketListener) Addr() net.Addr { return l.addr }

func (l *socketListener) Close() error {
	l.closed.Store(true)
	err := l.file.Close()
	if l.unixListener != nil {
		err = errors.Join(err, l.unixListener.Close())
	}
	return socketError("close", err)
}

// socket is a connection that is registered with the runtime's poller only when a call
// has to wait. If a client opens a connection for each request, the request has arrived
// when the connection is accepted, and the client closes after the answer. For such a
// connection most system calls would only prepare for waiting.
type socket struct {
	listener net.Addr
	file     atomic.Pointer[os.File] // set once a call has had to wait

	conn      *conn           // the connection if a loop drives it; then no call waits on the socket
	deadlines [2]atomic.Int64 // deadlines for reading and writing, by connections.deadline; 0: none

	mu     sync.Mutex // guards the fields below
	fd     int        // the descriptor until file is set; negative afterwards and when closed
	closed bool
}

// joinLoop makes a loop drive the socket's connection, unless there is no loop or it has
// ended.
func (s *socket) joinLoop(c *conn, l *loop) {
	if l != nil && l.addConn() {
		s.conn, c.loop, c.socket, c.fd = c, l, s, s.fd
	}
}

// Indexes of socket.deadlines.
const (
	readDeadline = iota
	writeDeadline
)

// deadlinePassed reports whether the deadline for reading or writing has passed.
func (s *socket) deadlinePassed(of int, now time.Time) bool {
	deadline := s.deadlines[of].Load()
	return deadline != 0 && deadline <= s.conn.registry.deadline(now)
}

// setLoopDeadline sets deadlines, and makes the loop look at the connection when they pass.
func (s *socket) setLoopDeadline(t time.Time, of ...int) error {
	c := s.conn
	for _, i := range of {
		s.deadlines[i].Store(c.registry.deadline(t))
	}
	if t.IsZero() {
		return nil
	}
	if left := time.Until(t); left > 0 {
		time.AfterFunc(left, func() { c.loop.post(c, reasonDeadline) })
	} else {
		c.loop.post(c, reasonDeadline)
	}
	return nil
}

func (s *socket) Read(p []byte) (n int, err error) {
	f := s.file.Load()
	if f == nil {
		n, err = s.tryNow(syscall.Read, p)
		if !errors.Is(err, syscall.EAGAIN) {
			if n == 0 && err == nil && len(p) > 0 {
				err = io.EOF
			}
			return n, socketError("read", err)
		}
		if f, err = s.asFile(); err != nil {
			return 0, socketError("read", err)
		}
	}
	n, err = f.Read(p)
	return n, socketError("read", err)
}

func (s *socket) Write(p []byte) (n int, err error) {
	f := s.file.Load()
	if f == nil {
		n, err = s.tryNow(syscall.Write, p)
		if err == nil && n == len(p) || err != nil && !errors.Is(err, syscall.EAGAIN) {
			return n, socketError("write", err)
		}
		if f, err = s.asFile(); err != nil {
			return n, socketError("write", err)
		}
	}
	more, err := f.Write(p[n:])
	return n + more, socketError("write", err)
}

// tryNow calls do without waiting. EAGAIN means that the caller has to wait.
func (s *socket) tryNow(do func(fd int, p []byte) (int, error), p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return 0, syscall.EAGAIN
	}
	for {
		if n, err := do(s.fd, p); !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}

// asFile returns the socket as a file that can wait, and registers it with the poller.
func (s *socket) asFile() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if s.fd >= 0 {
		s.file.Store(os.NewFile(uintptr(s.fd), "socket"))
		s.fd = -1
	}
	return s.file.Load(), nil
}

func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return socketError("close", net.ErrClosed)
	}
	s.closed = true
	if f := s.file.Load(); f != nil {
		return socketError("close", f.Close())
	}
	fd := s.fd
	s.fd = -1
	return socketError("close", syscall.Close(fd))
}

// CloseWrite closes the sending side, so that the peer reads the end of the stream.
func (s *socket) CloseWrite() error {
	if s.conn != nil {
		return socketError("shutdown", syscall.Shutdown(s.conn.fd, syscall.SHUT_WR))
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	return socketError("shutdown", errors.Join(err, failed))
}

// SyscallConn returns access to the descriptor.
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	f, err := s.asFile()
	if err != nil {
		return nil, socketError("raw", err)
	}
	return f.SyscallConn()
}

func (s *socket) SetDeadline(t time.Time) error {
	if s.conn != nil {
		return s.setLoopDeadline(t, readDeadline, writeDeadline)
	}
	return s.setDeadline((*os.File).SetDeadline, t)
}

func (s *socket) SetReadDeadline(t time.Time) error {
	if s.conn != nil {
		return s.setLoopDeadline(t, readDeadline)
	}
	return s.setDeadline((*os.File).SetReadDeadline, t)
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	if s.conn != nil {
		return s.setLoopDeadline(t, writeDeadline)
	}
	return s.setDeadline((*os.File).SetWriteDeadline, t)
}

func (s *socket) setDeadline(set func(*os.File, time.Time) error, t time.Time) error {
	f, err := s.asFile()
	if err == nil {
		err = set(f, t)
	}
	return socketError("set", err)
}

// LocalAddr returns the listener's address, which may be a wildcard.
func (s *socket) LocalAddr() net.Addr { return s.listener }

// RemoteAddr returns an empty address, because no data about peers is stored.
func (*socket) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// socketError converts an error to the one that package net would return.
func socketError(op string, err error) error {
	var file *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, fs.ErrClosed):
		err = net.ErrClosed
	case errors.As(err, &file):
		err = file.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Err: err}
}

// hasUnread reports whether bytes have arrived that are not read.
func hasUnread(c net.Conn) bool {
	if s, ok := c.(*socket); ok {
		waiting := 0
		_, err := s.tryNow(func(fd int, _ []byte) (n int, err error) {
			waiting, err = unix.IoctlGetInt(fd, unix.SIOCINQ)
			return 0, err
		}, nil)
		if !errors.Is(err, syscall.EAGAIN) {
			return waiting > 0 // the runtime's poller need not register the socket
		}
	}
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
