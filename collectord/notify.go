package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells the service manager what the daemon is about to do, as
// sd_notify(3) describes it. An empty one tells nobody.
type notifier string

// send sends assignments such as READY=1 in one message.
func (n notifier) send(assignments ...string) error {
	if n == "" {
		return nil
	}
	// A name that begins with @ is in the abstract namespace, for Go as well.
	conn, err := net.Dial("unixgram", string(n))
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// reloading announces a reload; ready ends it. The time lets the service manager
// tell this reload from an earlier one.
func (n notifier) reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	return n.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

func (n notifier) ready() error    { return n.send("READY=1") }
func (n notifier) stopping() error { return n.send("STOPPING=1") }
