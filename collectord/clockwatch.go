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

// clockInterval is how often the running daemon looks at the host's clock.
const clockInterval = 10 * time.Second

// clockWatch warns while the host's clock is wrong: usages are stored under the hour that
// it says, and a storage refuses requests of a clock that is far off. One goroutine at a
// time uses it, but for wrong.
type clockWatch struct {
	storage func() (ahead time.Duration, compared bool)
	records func() uint64 // appended since the start
	logger  *slog.Logger
	built   time.Time

	newest   time.Time // when the newest record was received, or some seconds before
	appended uint64    // by then
	wrong    atomic.Bool
}

func newClockWatch(log *wal.Log, ship *shipper.Shipper, logger *slog.Logger) *clockWatch {
	return &clockWatch{
		logger: logger, built: buildTime(),
		storage: func() (time.Duration, bool) {
			st := ship.Stats()
			return st.ClockAhead, st.ClockCompared
		},
		records: func() (n uint64) {
			for _, of := range log.Ledger().BySource {
				n += of.Appended
			}
			return n
		},
	}
}

// run looks until ctx ends. The newest record of earlier runs is that of the log in dataDir.
func (w *clockWatch) run(ctx context.Context, dataDir string) {
	w.newest = lookAtLog(dataDir).newest
	tick := time.NewTicker(clockInterval)
	defer tick.Stop()
	for {
		w.look(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look judges the clock, and notes when records were received.
func (w *clockWatch) look(now time.Time) {
	now = now.Round(0) // the wall clock alone
	c := doctor.Clock{Now: now, Built: w.built, Newest: w.newest}
	c.Ahead, c.Compared = w.storage()
	if c.Agrees() && c.Newest.After(now) { // the clock was ahead, and is right now
		c.Newest, w.newest = now, now
	}
	var wrong []string
	for _, check := range c.Checks() {
		if check.Level == doctor.Warning || check.Level == doctor.Error {
			wrong = append(wrong, check.Found)
		}
	}
	switch before := w.wrong.Swap(len(wrong) > 0); {
	case len(wrong) > 0:
		w.logger.Warn("the clock is wrong: "+strings.Join(wrong, "; ")+" (set it by NTP: usages are stored under the hour that it says)", "trouble", "clock")
	case before:
		w.logger.Info("the clock is right again", "trouble", "clock")
	}
	if n := w.records(); n != w.appended {
		w.appended = n
		if now.After(w.newest) {
			w.newest = now
		}
	}
}
