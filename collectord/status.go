package main

import (
	"log/slog"
	"os"
	"strconv"
	"time"
)

// Times between updates of the status line: statusInterval normally, and statusDelay
// after a trouble has begun or ended.
const (
	statusInterval = 10 * time.Second
	statusDelay    = time.Second
)

// reporter sends the daemon's status line to the service manager, and watchdog signals
// while all loops make progress. An unreachable bucket, a full disk and a full log do
// not stop the watchdog signals, because a restart would not help.
type reporter struct {
	manager  notifier
	watchdog time.Duration // the timeout of the service manager's watchdog; 0: none
	alive    func() error
	line     func() string   // the status line
	changed  <-chan struct{} // signals that troubles changed; may be nil
	logger   *slog.Logger
}

// watchdogTimeout returns the watchdog timeout of the service manager
// (sd_watchdog_enabled(3)), or 0 without a watchdog.
func watchdogTimeout(pid int) time.Duration {
	if owner := os.Getenv("WATCHDOG_PID"); owner != "" && owner != strconv.Itoa(pid) {
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
	var nextUpdate <-chan time.Time // collects changes into one report
	reported, due := "", time.Time{}
	for {
		var assignments []string
		if now := time.Now(); !now.Before(due) {
			if line := r.line(); line != reported {
				assignments, reported = append(assignments, "STATUS="+line), line
			}
			due = now.Add(statusInterval)
		}
		if r.watchdog > 0 && r.isAlive() {
			assignments = append(assignments, "WATCHDOG=1")
		}
		if err := r.send(assignments); err != nil {
			r.logger.Warn("the service manager may not know what the daemon does", "trouble", "notify", "error", err)
		}
		select {
		case <-tick.C:
		case <-r.changed:
			if nextUpdate == nil {
				nextUpdate = time.After(statusDelay)
			}
		case <-nextUpdate:
			nextUpdate, due = nil, time.Time{}
		case <-done:
			return
		}
	}
}

func (r *reporter) send(what []string) error {
	if len(what) == 0 {
		return nil
	}
	return r.manager.send(what...)
}

func (r *reporter) isAlive() bool {
	err := r.alive()
	if err != nil {
		r.logger.Error("the watchdog gets no sign of life: the daemon will be restarted", "trouble", "watchdog", "error", err)
	}
	return err == nil
}
