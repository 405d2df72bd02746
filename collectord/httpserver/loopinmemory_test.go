package httpserver

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// startLoopInBubble gives a server a loop that never blocks in the kernel, so that a synctest
// bubble can contain it. stop ends it.
func startLoopInBubble(t *testing.T, h *Server) (l *loop, stop func()) {
	t.Helper()
	l, err := newLoop(h, loopsBudgetBytes)
	if err != nil {
		t.Fatal(err)
	}
	l.relief.takeOver = func() {} // this goroutine runs it to the end
	h.loops.Store(&[]*loop{l})
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-l.woken:
				l.runTurn(t)
			case <-ended:
				return
			}
		}
	}()
	return l, func() {
		close(ended)
		<-stopped
		_ = l.poller.Close()
	}
}

// loopPeer is the client's end of a connection that a loop in a bubble drives.
type loopPeer struct {
	net.Conn // nil: only the methods below are used
	fd       int
	loop     *loop
	server   int // descriptor of the server's end
	filler   int // bytes to skip before those of the server
}

// dialLoop returns a new connection to a server, which a loop drives.
func (l *memoryListener) dialLoop(t *testing.T, driver *loop) *loopPeer {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.conns <- &socket{listener: &net.UnixAddr{}, fd: fds[0]}
	synctest.Wait()
	return &loopPeer{fd: fds[1], server: fds[0], loop: driver}
}

// fill fills the server's send buffer, so that its next response has to wait.
func (p *loopPeer) fill(t *testing.T) {
	t.Helper()
	for {
		n, err := unix.Write(p.server, make([]byte, 4<<10))
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p.filler += n
	}
}

// Write returns once the server has read all of b.
func (p *loopPeer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		more, err := unix.Write(p.fd, b[n:])
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
		n += max(more, 0)
		p.loop.wake()
		synctest.Wait()
	}
	return n, nil
}

func (p *loopPeer) Read(b []byte) (int, error) {
	settled := false // all that can run has run
	for began := time.Now(); time.Since(began) < 10*time.Minute; {
		space := b
		if p.filler > 0 {
			space = b[:min(len(b), p.filler)]
		}
		n, err := unix.Read(p.fd, space)
		switch {
		case errors.Is(err, unix.EAGAIN) && settled:
			<-time.After(10 * time.Millisecond)
		case errors.Is(err, unix.EAGAIN):
			settled = true
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		case p.filler > 0:
			p.filler -= n
		default:
			return n, nil
		}
		p.loop.wake()
		synctest.Wait()
	}
	return 0, os.ErrDeadlineExceeded
}

func (p *loopPeer) Close() error { return unix.Close(p.fd) }
