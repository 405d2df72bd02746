package udpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listen binds the sockets for one address. The kernel spreads senders over
// them; one sender always lands on the same. Their receive buffers are those of
// o, all of it for this address, until New shares it among all.
func Listen(addr netip.AddrPort, o Options) (conns []*net.UDPConn, err error) {
	o = o.withDefaults()
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6" // not also IPv4
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var sockErr, bufErr error
		err := raw.Control(func(fd uintptr) {
			sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			_, bufErr = setReceiveBuffer(int(fd), o.ReceiveBuffer/o.Sockets)
		})
		return errors.Join(err, sockErr, bufErr)
	}}
	for range o.Sockets {
		pc, err := lc.ListenPacket(context.Background(), network, addr.String())
		if err != nil {
			for _, c := range conns {
				err = errors.Join(err, c.Close())
			}
			return nil, fmt.Errorf("udp listener: %w", err)
		}
		c := pc.(*net.UDPConn) //nolint:forcetypeassert // what ListenPacket returns for udp
		addr = c.LocalAddr().(*net.UDPAddr).AddrPort()
		conns = append(conns, c)
	}
	return conns, nil
}

// setReceiveBuffer asks for a receive buffer of size bytes, beyond
// net.core.rmem_max if the process may do that (CAP_NET_ADMIN), and returns what
// the kernel gave. It doubles both for its bookkeeping (socket(7)).
func setReceiveBuffer(fd, size int) (given int, err error) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
	given, e := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return given / 2, errors.Join(err, e)
}

// socket is a socket out of reach of the runtime's poller, which is woken by
// every datagram, wanted or not, and spends more on that than reading takes
// (measured). It is waited for by poll(2) instead, and only when it is empty.
type socket struct {
	addr  net.Addr
	waits [2]unix.PollFd // the socket, and what ends the wait

	mu     sync.Mutex // guards what follows
	closed bool
	last   uint32 // drops as the kernel told them
	drops  uint64
}

// takeSocket moves a socket out of conn, which is closed. Waiting for it ends
// when the descriptor stop can be read.
func takeSocket(conn *net.UDPConn, stop int) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := 0, error(nil)
	err = raw.Control(func(own uintptr) { fd, dupErr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, dupErr); err != nil {
		return nil, err
	}
	s := &socket{addr: conn.LocalAddr()}
	s.waits[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	s.waits[1] = unix.PollFd{Fd: int32(stop), Events: unix.POLLIN}
	return s, conn.Close()
}

func (s *socket) fd() int { return int(s.waits[0].Fd) }

// wait returns when there is something to read, or to stop for.
func (s *socket) wait() error {
	_, err := unix.Poll(s.waits[:], -1)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// stopListening makes the socket deaf to everybody but itself, which it never
// sends to: it is connected to its own address. Unlike close it keeps what has
// come in, and unlike shutdown(2) it lets the kernel refuse what comes then, so
// that whoever sends it is told.
func (s *socket) stopListening() error {
	own, err := unix.Getsockname(s.fd())
	if err != nil {
		return err
	}
	switch a := own.(type) {
	case *unix.SockaddrInet4:
		if a.Addr == ([4]byte{}) {
			a.Addr = [4]byte{127, 0, 0, 1}
		}
	case *unix.SockaddrInet6:
		if a.Addr == ([16]byte{}) {
			a.Addr = [16]byte{15: 1}
		}
	}
	err = unix.Connect(s.fd(), own)
	if err == nil {
		return nil
	}
	// A wildcard's own address is the family's loopback address, which the host may
	// lack. A filter that takes nothing drops what comes then, and counts it.
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	if unix.SetsockoptSockFprog(s.fd(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}) == nil {
		return nil
	}
	return err
}

// lookAtDrops asks the kernel how many datagrams it had no room for, and returns
// the sum so far. A socket that is closed tells nothing new.
func (s *socket) lookAtDrops() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		if info, err := memoryInfo(s.fd()); err == nil {
			s.addDropsLocked(info[skMeminfoDrops])
		}
	}
	return s.drops
}

// addDropsLocked takes the kernel's counter, which wraps, and has to be looked at
// more often than it does.
func (s *socket) addDropsLocked(now uint32) {
	s.drops += uint64(now - s.last)
	s.last = now
}

func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return unix.Close(s.fd())
}

// Indices into what SO_MEMINFO returns (SK_MEMINFO_* in linux/sock_diag.h).
const (
	skMeminfoHeld  = 0 // bytes that wait to be read
	skMeminfoRoom  = 1 // bytes for which there is room
	skMeminfoDrops = 8 // datagrams for which there was none, modulo 2^32
)

// memoryInfo asks the kernel what a socket holds and dropped. SO_RXQ_OVFL would
// tell of drops with the next datagram, so never of the last burst.
func memoryInfo(fd int) (info [skMeminfoDrops + 1]uint32, err error) {
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return info, errno
	}
	return info, nil
}

// receiveQueueBusy reports whether one part in busyPart of the receive buffer is taken.
func (s *socket) receiveQueueBusy() bool {
	info, err := memoryInfo(s.fd())
	return err == nil && info[skMeminfoHeld] > info[skMeminfoRoom]/busyPart
}

const busyPart = 32
