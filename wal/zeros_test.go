package wal

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// rolledLog returns a log that has just sealed a segment of two MiB, so that the next one
// gets as many zeros. It runs in a bubble, whose clock only the pauses advance.
func rolledLog(t *testing.T) *Log {
	t.Helper()
	l := openLog(t, t.TempDir(), Options{SegmentSize: 2 << 20})
	big := Record{Usage: append(bytes.Repeat([]byte(" "), 64<<10), usage(1)...)}
	for segments, _ := l.Sealed(); len(segments) == 0; segments, _ = l.Sealed() {
		mustAppend(t, l, big)
		time.Sleep(maxZeroPause) // while a segment fills slowly, its zeros are written
	}
	return l
}

// The zeros of the next segment are written with pauses while the active segment has room.
func TestZerosLeaveTheDiskToCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := rolledLog(t)
		began := time.Now()
		for len(l.roller.rolls.next) == 0 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took < 5*maxZeroPause || took > 9*maxZeroPause {
			t.Errorf("eight chunks of zeros were written within %v", took)
		}
	})
}

// Whoever waits for the next segment does not wait for pauses.
func TestASegmentThatIsAwaitedIsPreparedWithoutPauses(t *testing.T) {
	for name, do := range map[string]func(l *Log) error{
		"seal":  func(l *Log) error { return l.Seal(context.Background()) },
		"close": func(l *Log) error { return l.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := rolledLog(t)
				mustAppend(t, l, Record{Usage: usage(1)})
				if len(l.roller.rolls.next) > 0 {
					t.Fatal("the next segment is prepared already")
				}
				began := time.Now()
				if err := do(l); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > 2*zeroPauseStep {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// Zeros are far enough ahead with twice the part to which the active segment is filled.
func TestZerosFollowTheActiveSegment(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{SegmentSize: 1 << 20})
	for _, c := range []struct {
		open                   bool
		active, written, total int64
		canWait                bool
	}{
		{true, 0, 1, 100, true},
		{true, 256 << 10, 50, 100, false},
		{true, 256 << 10, 51, 100, true},
		{true, 512 << 10, 100, 100, false},
		{false, 0, 100, 100, false}, // no segment is active, so the next one is awaited
	} {
		l.shelf.lock()
		l.shelf.active.open, l.shelf.active.bytes = c.open, c.active
		l.shelf.mu.Unlock()
		if got := l.shelf.canWaitForZeros(c.written, c.total); got != c.canWait {
			t.Errorf("%+v: %t", c, got)
		}
	}
}
