package httpserver

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"
)

// socketPair returns both ends of a connection, the accepted one as a socket.
func socketPair(t *testing.T) (*socket, net.Conn) {
	t.Helper()
	ln := listenForSockets(t)
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), peer.Close() })
	return c.(*socket), peer
}

func listenForSockets(t *testing.T) net.Listener {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := adopt(tcp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// An accepted socket inherits options of its listener.
func TestSocketsInheritTheListenersOptions(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	setSocketOptions(tcp, 32<<10)
	ln, err := adopt(tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if _, err := peer.Write([]byte("x")); err != nil { // otherwise it would be accepted only after deferAcceptSeconds
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*socket).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, minValue := range map[[2]int]int{{unix.IPPROTO_TCP, unix.TCP_NODELAY}: 1, {unix.SOL_SOCKET, unix.SO_SNDBUF}: sendBufferBytes} {
		var got int
		if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), option[0], option[1]) }); err != nil {
			t.Error(err)
		}
		if err != nil || got < minValue || got > 2*minValue {
			t.Errorf("option %v is %d, want %d: %v", option, got, minValue, err)
		}
	}
}

func TestASocketIsANetConn(t *testing.T) {
	t.Parallel()
	t.Run("accepted", func(t *testing.T) {
		nettest.TestConn(t, func() (_, _ net.Conn, stop func(), _ error) {
			s, peer := socketPair(t)
			return s, peer, func() { _, _ = s.Close(), peer.Close() }, nil
		})
	})
	t.Run("peer", func(t *testing.T) {
		nettest.TestConn(t, func() (_, _ net.Conn, stop func(), _ error) {
			s, peer := socketPair(t)
			return peer, s, func() { _, _ = s.Close(), peer.Close() }, nil
		})
	})
}

func TestASocketJoinsThePollerOnlyToWait(t *testing.T) {
	s, peer := socketPair(t)
	request := []byte("GET / HTTP/1.0\r\n\r\n")
	if _, err := peer.Write(request); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := s.Read(buf)
	if err != nil || !bytes.Equal(buf[:n], request) {
		t.Fatalf("read %q: %v", buf[:n], err)
	}
	if n, err := s.Write(request); n != len(request) || err != nil {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
	if s.file.Load() != nil {
		t.Error("the socket is registered with the poller before a call had to wait")
	}
	got := make(chan string)
	go func() {
		n, err := s.Read(buf)
		if err != nil {
			t.Error(err)
		}
		got <- string(buf[:n])
	}()
	for s.file.Load() == nil {
		<-time.After(time.Millisecond)
	}
	if _, err := peer.Write([]byte("next")); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "next" {
		t.Errorf("read %q", text)
	}
}

// Write waits until the kernel's buffer has accepted all bytes.
func TestASocketWritesMoreThanItsBuffer(t *testing.T) {
	s, peer := socketPair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	wrote := make(chan error, 1)
	go func() {
		n, err := s.Write(sent)
		if n != len(sent) && err == nil {
			err = io.ErrShortWrite
		}
		wrote <- errors.Join(err, s.CloseWrite())
	}()
	got, err := io.ReadAll(peer)
	if err := errors.Join(err, <-wrote); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes arrived: %v", len(got), len(sent), err)
	}
	if _, err := peer.Write([]byte("still there")); err != nil {
		t.Error("after CloseWrite, the peer can't write:", err)
	}
	if n, err := s.Read(make([]byte, 20)); n != 11 || err != nil {
		t.Error(n, err)
	}
}

func TestAClosedSocketReturnsErrClosed(t *testing.T) {
	for name, before := range map[string]func(*socket){
		"not registered":             func(*socket) {},
		"registered with the poller": func(s *socket) { _, _ = s.asFile() },
	} {
		s, _ := socketPair(t)
		before(s)
		if err := s.Close(); err != nil {
			t.Error(name, err)
		}
		_, read := s.Read(make([]byte, 1))
		_, written := s.Write([]byte("x"))
		for what, err := range map[string]error{"read": read, "write": written, "deadline": s.SetDeadline(time.Now()), "half": s.CloseWrite(), "again": s.Close()} {
			var op *net.OpError
			if !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// Closing a listener ends Accept with net.ErrClosed.
func TestAcceptEndsWithTheListener(t *testing.T) {
	ln := listenForSockets(t)
	failed := make(chan error)
	go func() {
		_, err := ln.Accept()
		failed <- err
	}()
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the address still accepts connections")
	}
	if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestServeReturnsAfterStopListening(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{})
	h.StopListening()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(ln) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testTimeout):
		t.Fatal("Serve did not return after StopListening")
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the address still accepts connections")
	}
}
