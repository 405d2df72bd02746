package main

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"collectord/collectord/doctor"
	"collectord/shipper"
	"collectord/wal"
)

// clockInterval is the time between two checks of the host's clock.
const clockInterval = 10 * time.Second

// clockWatch warns while the host's clock is wrong, for two reasons: each usage is
// stored under the hour of that clock, and a storage refuses requests from a clock that
// is far off. One goroutine at a time may use it; only wrong is safe for concurrent
// use.
type clockWatch struct {
	storageClock  func() (ahead time.Duration, compared bool)
	countAppended func() uint64 // usages appended since the start
	logger        *slog.Logger
	builtAt       time.Time

	newestRecord time.Time // when the newest record was received, or up to clockInterval later
	lastAppended uint64    // usages appended at the last check
	wrong        atomic.Bool
}

func newClockWatch(log *wal.Log, ship *shipper.Shipper, logger *slog.Logger) *clockWatch {
	return &clockWatch{
		logger: logger, builtAt: buildTime(),
		storageClock: func() (time.Duration, bool) {
			st := ship.Stats()
			return st.ClockAhead, st.ClockCompared
		},
		countAppended: func() (n uint64) {
			for _, of := range log.Ledger().BySource {
				n += of.Appended
			}
			return n
		},
	}
}

// run checks the clock until ctx ends. The newest segment in dataDir shows when earlier
// runs received their last record.
func (w *clockWatch) run(ctx context.Context, dataDir string) {
	w.newestRecord = readLogState(dataDir).newest
	tick := time.NewTicker(clockInterval)
	defer tick.Stop()
	for {
		w.check(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// check checks the clock at the time now, and updates the time of the newest record.
func (w *clockWatch) check(now time.Time) {
	now = now.Round(0) // strips the monotonic clock
	c := doctor.Clock{Now: now, Built: w.builtAt, Newest: w.newestRecord}
	c.Ahead, c.Compared = w.storageClock()
	if c.Agrees() && c.Newest.After(now) { // the clock was ahead, and is correct now
		c.Newest, w.newestRecord = now, now
	}
	var wrong []string
	for _, check := range c.Checks() {
		if check.Level == doctor.Warning || check.Level == doctor.Error {
			wrong = append(wrong, check.Found)
		}
	}
	switch before := w.wrong.Swap(len(wrong) > 0); {
	case len(wrong) > 0:
		w.logger.Warn("the clock is wrong: "+strings.Join(wrong, "; ")+" (set it by NTP: usages are stored under the hour that it shows)", "trouble", "clock")
	case before:
		w.logger.Info("the clock is right again", "trouble", "clock")
	}
	if n := w.countAppended(); n != w.lastAppended {
		w.lastAppended = n
		if now.After(w.newestRecord) {
			w.newestRecord = now
		}
	}
}
