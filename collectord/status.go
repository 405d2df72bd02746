package main

import (
	"log/slog"
	"os"
	"strconv"
	"time"
)

// The status line is made anew every statusInterval, and statusSoon after something has
// begun to fail or is over.
const (
	statusInterval = 10 * time.Second
	statusSoon     = time.Second
)

// reporter tells the service manager what the daemon does, in a line, and, if it
// has a watchdog, that the loops turn. A bucket that is away, a full disk or a full
// log are no reason for a restart, which would not help.
type reporter struct {
	manager  notifier
	watchdog time.Duration // what it waits for a sign; 0 without one
	alive    func() error
	line     func() string   // what the daemon does
	changed  <-chan struct{} // it may be something else now; may be nil
	logger   *slog.Logger
}

// watchdogOf returns within what time the service manager waits for a sign
// (sd_watchdog_enabled(3)), or 0 if it does not.
func watchdogOf(pid int) time.Duration {
	if of := os.Getenv("WATCHDOG_PID"); of != "" && of != strconv.Itoa(pid) {
		return 0
	}
	micros, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || micros <= 0 || micros > int64(time.Hour/time.Microsecond)*24*365 {
		return 0
	}
	return time.Duration(micros) * time.Microsecond
}

// run reports until done is closed.
func (r *reporter) run(done <-chan struct{}) {
	if r.manager == "" {
		return
	}
	interval := statusInterval
	if r.watchdog > 0 {
		interval = min(interval, r.watchdog/3)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var soon <-chan time.Time // what comes together is reported together
	reported, due := "", time.Time{}
	for {
		var tell []string
		if now := time.Now(); !now.Before(due) {
			if line := r.line(); line != reported {
				tell, reported = append(tell, "STATUS="+line), line
			}
			due = now.Add(statusInterval)
		}
		if r.watchdog > 0 && r.turning() {
			tell = append(tell, "WATCHDOG=1")
		}
		if err := r.tell(tell); err != nil {
			r.logger.Warn("the service manager may not know what the daemon does", "trouble", "notify", "error", err)
		}
		select {
		case <-tick.C:
		case <-r.changed:
			if soon == nil {
				soon = time.After(statusSoon)
			}
		case <-soon:
			soon, due = nil, time.Time{}
		case <-done:
			return
		}
	}
}

func (r *reporter) tell(what []string) error {
	if len(what) == 0 {
		return nil
	}
	return r.manager.send(what...)
}

func (r *reporter) turning() bool {
	err := r.alive()
	if err != nil {
		r.logger.Error("the watchdog gets no sign of life: the daemon will be restarted", "trouble", "watchdog", "error", err)
	}
	return err == nil
}
