//go:build race

package epoll

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// The race detector instruments the calls of package syscall. It therefore knows that a
// write to a connection happens before the read at its other end.

// Recv reads from a non-blocking socket. EAGAIN means that no data is available.
func Recv(fd int, p []byte) (int, error) { return transfer(syscall.Read, fd, p) }

// Send writes to a non-blocking socket, possibly only a part of p. EAGAIN means that
// the send buffer is full.
func Send(fd int, p []byte) (int, error) { return transfer(syscall.Write, fd, p) }

func transfer(call func(int, []byte) (int, error), fd int, p []byte) (int, error) {
	for {
		if n, err := call(fd, p); !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}

func pollNow(fd int, events []unix.EpollEvent) (int, error) {
	for {
		if n, err := unix.EpollWait(fd, events, 0); !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

func wake(fd int) { _, _ = syscall.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }
