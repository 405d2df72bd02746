//go:build race

package epoll

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// The race detector knows the calls of package syscall, and sees the order between the two
// ends of a connection.

// Recv reads from a socket that does not block. EAGAIN means that nothing is there.
func Recv(fd int, p []byte) (int, error) { return transfer(syscall.Read, fd, p) }

// Send writes to a socket that does not block, perhaps not all of p. EAGAIN means that
// there is no room.
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
