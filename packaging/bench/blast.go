package main

import (
	"errors"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// together is how many datagrams a system call sends.
const together = 64

// mmsghdr is struct mmsghdr of sendmmsg(2) and recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	_ [8]byte // the length of what came, and padding
}

// blast sends body as a datagram, again and again, for as long as it is told:
// at a rate a second, or, with 0, as fast as one thread can.
func blast(addr string, body []byte, rate int, length time.Duration) (sent int, took time.Duration, err error) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var headers [together]mmsghdr
	iovec := unix.Iovec{Base: &body[0]}
	iovec.SetLen(len(body))
	for i := range headers {
		headers[i].Iov = &iovec
		headers[i].SetIovlen(1)
	}
	began := time.Now()
	for {
		took = time.Since(began)
		if took >= length {
			return sent, took, nil
		}
		n := together
		if rate > 0 {
			n = min(n, int(took.Seconds()*float64(rate))-sent)
		}
		if n < 1 {
			time.Sleep(time.Second/time.Duration(rate) + 50*time.Microsecond)
			continue
		}
		var errno syscall.Errno
		err := raw.Write(func(fd uintptr) bool {
			var done uintptr
			done, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&headers)), uintptr(n), 0, 0, 0)
			if errno == 0 {
				sent += int(done)
			}
			return errno != unix.EAGAIN
		})
		if err != nil || errno != 0 {
			return sent, took, errors.Join(err, errno)
		}
	}
}
