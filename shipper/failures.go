package shipper

import (
	"log/slog"
	"time"
)

// summaryInterval is how often a failure that goes on is told again.
const summaryInterval = 30 * time.Second

// failureLog tells of repeated failures once, then sums them up, then says that
// it is over.
type failureLog struct {
	logger      *slog.Logger
	destination string
	count       int // since the last success
	untold      int // of those, since the last line
	since, told time.Time
}

func (f *failureLog) failed(segment string, err error) {
	now := time.Now()
	f.count++
	f.untold++
	if f.count == 1 {
		f.since = now
	} else if now.Sub(f.told) < summaryInterval {
		return
	}
	f.logger.Error("can't ship: everything is kept and tried again", "destination", f.destination,
		"segment", segment, "error", err, "failures", f.untold)
	f.told, f.untold = now, 0
}

func (f *failureLog) recovered() {
	if f.count > 0 {
		f.logger.Info("shipping again", "destination", f.destination,
			"failures", f.count, "after", time.Since(f.since).Round(time.Millisecond).String())
		f.count, f.untold = 0, 0
	}
}
