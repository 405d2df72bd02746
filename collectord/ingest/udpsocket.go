package ingest

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

// ListenUDP binds the sockets for one address. The kernel spreads senders over
// them; one sender always lands on the same. Their receive buffers are those of
// o, all of it for this address, until NewUDP shares it among all.
func ListenUDP(addr netip.AddrPort, o UDPOptions) (conns []*net.UDPConn, err error) {
	o = o.withDefaults()
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6" // not also IPv4
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var sockErr error
		err := raw.Control(func(fd uintptr) {
			sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		_, bufErr := setReceiveBuffer(raw, o.ReceiveBuffer/o.Sockets)
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
func setReceiveBuffer(raw syscall.RawConn, size int) (given int, err error) {
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
			sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		given, sockErr = n/2, errors.Join(sockErr, err)
	})
	return given, errors.Join(err, sockErr)
}

// stopListening makes a socket deaf to everybody but itself, which it never
// sends to: it is connected to its own address. Unlike close it keeps what has
// come in, and unlike shutdown(2) it lets the kernel refuse what comes then, so
// that whoever sends it is told.
func stopListening(raw syscall.RawConn) error {
	var sockErr error
	err := raw.Control(func(fd uintptr) {
		own, err := unix.Getsockname(int(fd))
		if err != nil {
			sockErr = err
			return
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
		sockErr = unix.Connect(int(fd), own)
	})
	return errors.Join(err, sockErr)
}

// drops counts what the kernel had no room for in one socket.
type drops struct {
	mu    sync.Mutex // guards what follows
	last  uint32     // as the kernel told it
	total uint64
}

// look asks the kernel and returns the sum so far. A socket that is closed tells
// nothing new.
func (d *drops) look(raw syscall.RawConn) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := kernelDrops(raw)
	if err != nil {
		return d.total
	}
	return d.addLocked(now)
}

// addLocked takes the kernel's counter, which wraps, and has to be looked at more
// often than it does.
func (d *drops) addLocked(now uint32) uint64 {
	d.total += uint64(now - d.last)
	d.last = now
	return d.total
}

// skMeminfoDrops is the index of the drop counter in what SO_MEMINFO returns
// (SK_MEMINFO_DROPS in linux/sock_diag.h).
const skMeminfoDrops = 8

// kernelDrops asks how many datagrams a socket had no room for, modulo 2^32.
// SO_RXQ_OVFL would tell with the next datagram, so never of the last burst.
func kernelDrops(raw syscall.RawConn) (drops uint32, err error) {
	var info [skMeminfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if errno != 0 {
		err = errors.Join(err, errno)
	}
	return info[skMeminfoDrops], err
}
