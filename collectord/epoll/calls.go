//go:build !race

package epoll

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These system calls never block, so that the scheduler need not hear of them: that would
// take a tenth of a request's time.

// Recv reads from a socket that does not block. EAGAIN means that nothing is there.
func Recv(fd int, p []byte) (int, error) { return transfer(syscall.SYS_RECVFROM, fd, p, 0) }

// Send writes to a socket that does not block, perhaps not all of p. EAGAIN means that
// there is no room.
func Send(fd int, p []byte) (int, error) {
	return transfer(syscall.SYS_SENDTO, fd, p, syscall.MSG_NOSIGNAL)
}

func transfer(call uintptr, fd int, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// pollNow is epoll_wait without waiting.
func pollNow(fd int, events []unix.EpollEvent) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// wake adds to an eventfd. Where that fails, what it holds is enough.
func wake(fd int) {
	one := [8]byte{1}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), uintptr(len(one)))
}
