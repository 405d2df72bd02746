package testrun

import (
	"testing"
	"time"
)

func TestWaitPastHourEnd(t *testing.T) {
	hour := time.Date(2026, 11, 23, 8, 0, 0, 0, time.FixedZone("", 30*60))
	for at, want := range map[time.Duration]time.Duration{
		29*time.Minute + 30*time.Second: 0, 29*time.Minute + 59*time.Second: time.Second, 30 * time.Minute: 0, 59*time.Minute + 59*time.Second: 0,
	} {
		if got := untilClear(hour.Add(at)); got != want {
			t.Errorf("at %v: %v, want %v", at, got, want)
		}
	}
}
