package shipper

import (
	"testing"
	"time"
)

func TestClockComparisonIsOutdatedAfterTheClockWasSet(t *testing.T) {
	for wall, want := range map[time.Duration]bool{time.Hour: false, time.Hour + time.Second: false, time.Hour - 6*time.Second: true, 2 * time.Hour: true, 0: true} {
		if haveDiverged(wall, time.Hour) != want {
			t.Errorf("with %v by the wall clock and 1h by the monotonic clock, diverged: %t", wall, !want)
		}
	}
	now := time.Now()
	c := clockComparison{time.Second, now}
	if c.isOutdated(now.Add(time.Hour)) {
		t.Error("the comparison is outdated after an hour, though no clock was set")
	}
}
