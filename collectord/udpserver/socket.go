package udpserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listen binds the sockets for one address. The kernel distributes senders over the
// sockets by address: a sender always reaches the same socket. The sockets of this
// address share all of o.ReceiveBuffer, until New divides it among the sockets of all
// addresses.
func Listen(addr netip.AddrPort, o Options) (conns []*net.UDPConn, err error) {
	o = o.withDefaults()
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6" // exclude IPv4
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
		c := pc.(*net.UDPConn) //nolint:forcetypeassert // ListenPacket returns this type for udp
		addr = c.LocalAddr().(*net.UDPAddr).AddrPort()
		conns = append(conns, c)
	}
	return conns, nil
}

// setReceiveBuffer requests a receive buffer of size bytes, and returns the size that
// the kernel granted. With CAP_NET_ADMIN the size may exceed net.core.rmem_max. The
// kernel doubles the size for its bookkeeping (socket(7)), so the result is halved.
func setReceiveBuffer(fd, size int) (granted int, err error) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
	granted, e := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return granted / 2, errors.Join(err, e)
}

// socket is a UDP socket outside the runtime's poller. Every datagram would wake the
// poller, which costs more than reading (measured). A reader waits with poll(2)
// instead, and only when the socket is empty.
type socket struct {
	addr    net.Addr
	pollFDs [2]unix.PollFd // the socket, and the descriptor that ends the wait

	messages, datagrams atomic.Uint64 // read so far

	mu          sync.Mutex // guards the fields below
	closed      bool
	drops       dropCount
	lastDropped uint64 // datagrams, at the last look
}

// dropCount converts the kernel's count of dropped messages to datagrams. It is exact if
// every message is one datagram. Otherwise it assumes that the dropped messages held as many
// as those read at that time, because the kernel does not count them. If a sender mixes large
// and small messages, this can be wrong by a half (measured).
type dropCount struct {
	counter             uint32  // the kernel's latest count, modulo 2^32
	messages, datagrams uint64  // read until then
	perMessage          float64 // datagrams per message in the last interval with any; 0 before that
	datagramsLost       float64
}

// update adds the growth of the kernel's counter, and returns the number of datagrams that
// the kernel dropped so far. It must be called at least once per wrap of the counter.
// messages and datagrams are the numbers read so far.
func (d *dropCount) update(counter uint32, messages, datagrams uint64) uint64 {
	growth := float64(counter - d.counter)
	if messages > d.messages {
		d.perMessage = float64(datagrams-d.datagrams) / float64(messages-d.messages)
	}
	if d.perMessage == 0 { // decided when the first message is read
		return uint64(d.datagramsLost + growth)
	}
	d.datagramsLost += growth * d.perMessage
	d.counter, d.messages, d.datagrams = counter, messages, datagrams
	return uint64(math.Round(d.datagramsLost))
}

// inherit makes the drops so far count as one datagram each. An earlier server has reported
// them, and this one does not know what their messages held.
func (s *socket) inherit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if info, err := memoryInfo(s.fd()); err == nil {
		counter := info[skMeminfoDrops]
		s.drops = dropCount{counter: counter, datagramsLost: float64(counter)}
	}
}

// adoptSocket duplicates the descriptor of conn and closes conn. A wait for the socket
// ends when the descriptor stop becomes readable.
func adoptSocket(conn *net.UDPConn, stop int) (*socket, error) {
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
	s.pollFDs[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	s.pollFDs[1] = unix.PollFd{Fd: int32(stop), Events: unix.POLLIN}
	// Kernels before 5.0 lack the option and pass each datagram on its own.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	return s, conn.Close()
}

func (s *socket) fd() int { return int(s.pollFDs[0].Fd) }

// wait blocks until the socket or the stop descriptor is readable.
func (s *socket) wait() error {
	_, err := unix.Poll(s.pollFDs[:], -1)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// stopListening connects the socket to its own address, so that it accepts datagrams
// only from itself and it never sends any. Unlike close, this keeps queued datagrams.
// Unlike shutdown(2), it makes the kernel refuse new datagrams with an error to the
// sender.
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
	// The address of a wildcard socket is the loopback address here, which the host may
	// lack. A filter that accepts no bytes drops and counts new datagrams instead.
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	if unix.SetsockoptSockFprog(s.fd(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}) == nil {
		return nil
	}
	return err
}

// dropped returns the number of datagrams that the kernel dropped so far. A closed socket
// keeps its last number.
func (s *socket) dropped() uint64 {
	n, _ := s.look()
	return n
}

// receiveQueueBusy reports whether more than 1/busyFraction of the receive buffer is used.
func (s *socket) receiveQueueBusy() bool {
	_, busy := s.look()
	return busy
}

const busyFraction = 32

// look reads the kernel's figures of the socket. The more often it is called, the better
// is the estimate of dropCount.
func (s *socket) look() (dropped uint64, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		if info, err := memoryInfo(s.fd()); err == nil {
			s.lastDropped = s.drops.update(info[skMeminfoDrops], s.messages.Load(), s.datagrams.Load())
			busy = info[skMeminfoRmemAlloc] > info[skMeminfoRcvbuf]/busyFraction
		}
	}
	return s.lastDropped, busy
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

// space returns how many bytes of memory the kernel may still use for datagrams.
func (s *socket) space() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	info, err := memoryInfo(s.fd())
	if err != nil {
		return 0 // this kernel has no SO_MEMINFO
	}
	return max(0, int64(info[skMeminfoRcvbuf])-int64(info[skMeminfoRmemAlloc]))
}

// Indices into the result of SO_MEMINFO (SK_MEMINFO_* in linux/sock_diag.h).
const (
	skMeminfoRmemAlloc = 0 // bytes queued
	skMeminfoRcvbuf    = 1 // maximum number of bytes queued
	skMeminfoDrops     = 8 // messages dropped because the buffer was full, modulo 2^32
)

// memoryInfo returns the SO_MEMINFO of a socket. SO_RXQ_OVFL is no alternative: it
// reports drops only with the next datagram, so it never reports the drops of the last burst.
func memoryInfo(fd int) (info [skMeminfoDrops + 1]uint32, err error) {
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return info, errno
	}
	return info, nil
}
