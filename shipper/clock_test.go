package shipper

import (
	"testing"
	"time"
)

// TestClockComparisonIsOutdatedAfterTheClockWasSet: it says nothing of a clock that was set since.
func TestClockComparisonIsOutdatedAfterTheClockWasSet(t *testing.T) {
	for wall, want := range map[time.Duration]bool{time.Hour: false, time.Hour + time.Second: false, time.Hour - 6*time.Second: true, 2 * time.Hour: true, 0: true} {
		if haveDiverged(wall, time.Hour) != want {
			t.Errorf("%v on a clock, and an hour on the other: %t", wall, !want)
		}
	}
	now := time.Now()
	c := clockComparison{time.Second, now}
	if c.isOutdated(now.Add(time.Hour)) {
		t.Error("it is outdated after an hour")
	}
}
