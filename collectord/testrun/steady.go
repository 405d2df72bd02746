package testrun

import (
	"testing"
	"time"
)

// RetryIfStalled runs a trial that depends on real time. A failed trial is repeated, up to 10
// trials, if the process stood still for longer than pause: such a failure proves
// nothing.
func RetryIfStalled(t testing.TB, pause time.Duration, trial func() error) {
	t.Helper()
	for range 10 {
		stop, pauses := make(chan struct{}), make(chan time.Duration)
		go func() { pauses <- longestPause(stop) }()
		err := trial()
		close(stop)
		switch longest := <-pauses; {
		case err == nil:
			return
		case longest <= pause:
			t.Error(err)
			return
		default:
			t.Logf("the machine stood still for %v: %v", longest, err)
		}
	}
	t.Error("the machine is too slow for this test")
}

// longestPause returns the longest interval between two wake-ups of a goroutine that
// sleeps for 5 ms at a time.
func longestPause(stop <-chan struct{}) (longest time.Duration) {
	for last := time.Now(); ; {
		select {
		case <-stop:
			return max(longest, time.Since(last))
		case <-time.After(5 * time.Millisecond):
			longest = max(longest, time.Since(last))
			last = time.Now()
		}
	}
}
