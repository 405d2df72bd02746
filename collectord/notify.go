package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// notifier is the address of the service manager's socket for notifications about the
// daemon's state (sd_notify(3)). An empty notifier sends nothing.
type notifier string

// send sends assignments such as READY=1 in one message.
func (n notifier) send(assignments ...string) error {
	return n.write(nil, assignments)
}

// sendDescriptor sends assignments and the descriptor of a socket in one message.
func (n notifier) sendDescriptor(c syscall.Conn, assignments ...string) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	sent := error(nil)
	err = raw.Control(func(fd uintptr) { sent = n.write(unix.UnixRights(int(fd)), assignments) })
	return errors.Join(err, sent)
}

func (n notifier) write(rights []byte, assignments []string) error {
	if n == "" {
		return nil
	}
	fail := func(call string, err error) error {
		return fmt.Errorf("notify the service manager: %w", os.NewSyscallError(call, err))
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return fail("setsockopt", err)
	}
	// SockaddrUnix maps a leading @ to the abstract namespace.
	to := &unix.SockaddrUnix{Name: string(n)}
	if err := unix.Sendmsg(fd, []byte(strings.Join(assignments, "\n")), rights, to, 0); err != nil {
		return fail("sendmsg", err)
	}
	return nil
}

// reloading announces a reload, which ready ends. The monotonic time lets the service
// manager distinguish this reload from an earlier one.
func (n notifier) reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	return n.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

func (n notifier) ready() error    { return n.send("READY=1") }
func (n notifier) stopping() error { return n.send("STOPPING=1") }

// logNotifyError logs the error of a notification, if it failed.
func logNotifyError(logger *slog.Logger, err error) {
	if err != nil {
		logger.Warn("the service manager may not know what the daemon does", "trouble", "notify", "error", err)
	}
}
