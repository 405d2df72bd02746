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

// socketListener accepts connections that are sockets, of TCP or unix ones.
//
// System calls here are those of package syscall: for accept4, x/sys/unix asks
// the kernel one thing more, and between its reads and writes and those of package
// net the race detector sees no order.
type socketListener struct {
	addr   net.Addr
	file   *os.File
	raw    syscall.RawConn
	named  *net.UnixListener // it removes its name from the file system, if it is to; nil for TCP
	closed atomic.Bool
}

// adopt makes a listener of TCP or of a unix socket, which it closes, one that accepts
// sockets. Others are as they were.
func adopt(ln net.Listener) (net.Listener, error) {
	from, ok := ln.(interface{ File() (*os.File, error) })
	if !ok {
		return ln, nil
	}
	file, err := from.File() // a duplicate
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
	return &socketListener{addr: ln.Addr(), file: file, raw: raw, named: named}, nil
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
		if l.named != nil {
			setAnswerBuffer(uintptr(fd), answerBuffer) // those of unix sockets inherit nothing
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
	if l.named != nil {
		err = errors.Join(err, l.named.Close())
	}
	return socketError("close", err)
}

// socket is a connection that the runtime's poller does not know before
// somebody has to wait for it. A client with a connection for each request has
// sent that by the time it is accepted, and is gone once it is answered: most of
// the system calls for it would be there for waiting only.
type socket struct {
	listener net.Addr
	file     atomic.Pointer[os.File] // once somebody has had to wait

	driver *conn           // the connection, if a loop drives it; nothing waits on the socket then
	late   [2]atomic.Int64 // when it is too late to read, and to write, as deadline makes it; 0: never

	mu     sync.Mutex // guards what follows
	fd     int        // until then; below 0 once it is the file's, or closed
	closed bool
}

// join has a loop drive the socket's connection, unless there is none any more.
func (s *socket) join(c *conn, l *loop) {
	if l != nil && l.takeIn() {
		s.driver, c.loop, c.socket, c.fd = c, l, s, s.fd
	}
}

// Of what a deadline is.
const (
	reading = iota
	writing
)

// isLate reports whether a deadline has passed.
func (s *socket) isLate(of int, now time.Time) bool {
	by := s.late[of].Load()
	return by != 0 && by <= s.driver.all.deadline(now)
}

// setLate has the loop look at the connection when it is too late.
func (s *socket) setLate(t time.Time, of ...int) error {
	c := s.driver
	for _, i := range of {
		s.late[i].Store(c.all.deadline(t))
	}
	if t.IsZero() {
		return nil
	}
	if left := time.Until(t); left > 0 {
		time.AfterFunc(left, func() { c.loop.post(c, late) })
	} else {
		c.loop.post(c, late)
	}
	return nil
}

func (s *socket) Read(p []byte) (n int, err error) {
	f := s.file.Load()
	if f == nil {
		n, err = s.atOnce(syscall.Read, p)
		if !errors.Is(err, syscall.EAGAIN) {
			if n == 0 && err == nil && len(p) > 0 {
				err = io.EOF
			}
			return n, socketError("read", err)
		}
		if f, err = s.pollable(); err != nil {
			return 0, socketError("read", err)
		}
	}
	n, err = f.Read(p)
	return n, socketError("read", err)
}

func (s *socket) Write(p []byte) (n int, err error) {
	f := s.file.Load()
	if f == nil {
		n, err = s.atOnce(syscall.Write, p)
		if err == nil && n == len(p) || err != nil && !errors.Is(err, syscall.EAGAIN) {
			return n, socketError("write", err)
		}
		if f, err = s.pollable(); err != nil {
			return n, socketError("write", err)
		}
	}
	more, err := f.Write(p[n:])
	return n + more, socketError("write", err)
}

// atOnce reads or writes what is possible without waiting; EAGAIN means that one
// has to.
func (s *socket) atOnce(do func(fd int, p []byte) (int, error), p []byte) (int, error) {
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

// pollable returns what can wait.
func (s *socket) pollable() (*os.File, error) {
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

// CloseWrite tells the peer that nothing follows.
func (s *socket) CloseWrite() error {
	if s.driver != nil {
		return socketError("shutdown", syscall.Shutdown(s.driver.fd, syscall.SHUT_WR))
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	return socketError("shutdown", errors.Join(err, failed))
}

// SyscallConn is for whoever needs the descriptor.
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	f, err := s.pollable()
	if err != nil {
		return nil, socketError("raw", err)
	}
	return f.SyscallConn()
}

func (s *socket) SetDeadline(t time.Time) error {
	if s.driver != nil {
		return s.setLate(t, reading, writing)
	}
	return s.setDeadline((*os.File).SetDeadline, t)
}

func (s *socket) SetReadDeadline(t time.Time) error {
	if s.driver != nil {
		return s.setLate(t, reading)
	}
	return s.setDeadline((*os.File).SetReadDeadline, t)
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	if s.driver != nil {
		return s.setLate(t, writing)
	}
	return s.setDeadline((*os.File).SetWriteDeadline, t)
}

func (s *socket) setDeadline(set func(*os.File, time.Time) error, t time.Time) error {
	f, err := s.pollable()
	if err == nil {
		err = set(f, t)
	}
	return socketError("set", err)
}

// LocalAddr is the listener's, which may be a wildcard.
func (s *socket) LocalAddr() net.Addr { return s.listener }

// RemoteAddr is not known: nothing is stored about who a peer is.
func (*socket) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// socketError makes of an error what package net would.
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

// unread reports whether something has arrived that nobody has read yet.
func unread(c net.Conn) bool {
	if s, ok := c.(*socket); ok {
		waiting := 0
		_, err := s.atOnce(func(fd int, _ []byte) (n int, err error) {
			waiting, err = unix.IoctlGetInt(fd, unix.SIOCINQ)
			return 0, err
		}, nil)
		if !errors.Is(err, syscall.EAGAIN) {
			return waiting > 0 // and the poller need not know it
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
