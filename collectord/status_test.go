package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheDaemonNotifiesTheWatchdog(t *testing.T) {
	m := startManager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "300000")
	config, port, admin := configure(t, t.TempDir(), "")
	d := m.run(nil, config, port, admin)
	until(t, "watchdog messages arrive", func() bool { _, n := m.lastStatus(); return n > 3 })
	if status, _ := m.lastStatus(); !strings.Contains(status, "usages/s") {
		t.Errorf("status: %q", status)
	}
	d.stop()
}

func TestTheWatchdogIsNotNotifiedWhileALoopIsStuck(t *testing.T) {
	m := startManager(t, filepath.Join(t.TempDir(), "notify"))
	var stuck atomic.Bool
	asked := make(chan struct{}, 100)
	r := &reporter{
		manager: notifier(m.socket), watchdog: 30 * time.Millisecond, logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		line: func() string { return "fine" },
		alive: func() error {
			select {
			case asked <- struct{}{}:
			default: // the test has received enough
			}
			if stuck.Load() {
				return errors.New("the committer has been stuck")
			}
			return nil
		},
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); r.run(done) }()
	turn := func() {
		t.Helper()
		select {
		case <-asked:
		case <-time.After(testTimeout):
			t.Fatal("the watchdog does not check the loops")
		}
	}
	watchdogSignals := func() int { _, n := m.lastStatus(); return n }
	until(t, "watchdog messages arrive", func() bool { return watchdogSignals() > 3 })
	stuck.Store(true)
	turn() // a check that began before the loop was stuck has notified once two more checks have begun
	for range cap(asked) {
		select {
		case <-asked:
		default:
		}
	}
	turn()
	turn()
	m.receiveSent()
	before := watchdogSignals()
	for range 10 {
		turn()
	}
	m.receiveSent()
	if n := watchdogSignals(); n != before {
		t.Errorf("%d watchdog messages while a loop is stuck", n-before)
	}
	stuck.Store(false)
	until(t, "watchdog messages arrive again", func() bool { return watchdogSignals() > before })
	close(done)
	<-ended
}

func TestTheWatchdogIsIgnoredForAnotherProcess(t *testing.T) {
	const pid = 4711
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"30000000", "", 30 * time.Second},
		{"30000000", fmt.Sprint(pid), 30 * time.Second},
		{"30000000", "1", 0},
		{"", "", 0},
		{"0", "", 0},
		{"-1", "", 0},
		{"soon", "", 0},
		{"9223372036854775807", "", 0},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got := watchdogTimeout(pid); got != c.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}
