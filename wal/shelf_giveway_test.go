package wal

import (
	"bytes"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/vfs"
)

func TestReadersGiveWayToUDPWithoutStopping(t *testing.T) {
	hang := make(chan struct{})
	var hanging atomic.Bool
	l := openLog(t, t.TempDir(), Options{QueueBytes: 1 << 20}.WithDatasync(func(f vfs.File) error {
		if hanging.Load() {
			<-hang
		}
		return f.Datasync()
	}))
	for i := range 3 { // frames
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	mustSeal(t, l)
	if l.shelf.udpHasPriority() {
		t.Error("readers give way although the queue is empty")
	}
	l.YieldToIngest()
	if !l.shelf.udpHasPriority() {
		t.Error("readers do not give way after YieldToIngest")
	}
	until(t, "readers no longer give way", func() bool { return !l.shelf.udpHasPriority() })
	hanging.Store(true)
	l.Enqueue(Record{Usage: usage(3), Source: UDP}) // this record is being committed
	until(t, "a commit is under way", func() bool {
		return l.committer.diskWait.isBusy()
	})
	for range 1000 {
		l.Enqueue(Record{Usage: bytes.Repeat([]byte("x"), 100), Source: UDP})
	}
	if !l.shelf.udpHasPriority() {
		t.Error("readers do not give way while the queue fills")
	}
	sealed, _ := l.Sealed()
	n := 0
	for _, err := range sealed[0].Records() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d records read while giving way", n)
	}
	limits := Limits{MaxBytes: sealed[0].Bytes()}
	l.SetLimits(limits)
	if l.shelf.udpHasPriority() {
		t.Error("readers give way although only shipping makes space")
	}
	close(hang)
	until(t, "the queue is empty", func() bool { return !l.shelf.udpHasPriority() })
}

// TestReadersGiveWayToABusyCommitter has a reader that works in turns, while records are
// committed at a rate, and looks how long the reader pauses.
func TestReadersGiveWayToABusyCommitter(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		turn     time.Duration
		rate     float64 // records per second
		pause    time.Duration
		halfFull bool
	}{
		"busy":                 {2 * ms, 3000, 6 * ms, false},
		"before the turn ends": {giveWayTurn - 1, 1e5, 0, false},
		"idle":                 {2 * ms, 0, 0, false},
		"at a low rate":        {2 * ms, 1000, 0, false},
		"after a slow read":    {time.Minute, 3000, giveWayMaxPause, false},
		"the log is half full": {2 * ms, 1e5, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLog(t, t.TempDir(), Options{})
				mustAppend(t, l, Record{Usage: usage(0)})
				mustSeal(t, l)
				if c.halfFull {
					sealed, _ := l.Sealed()
					l.SetLimits(Limits{MaxBytes: sealed[0].Bytes()})
				}
				p := l.shelf.newReaderPace()
				began := time.Now()
				committed := l.queue.committed.Load()
				for range 3 {
					time.Sleep(c.turn)
					l.queue.committed.Store(committed + uint64(c.rate*time.Since(began).Seconds()))
					paused := time.Now()
					p.giveWay()
					if pause := time.Since(paused); pause != c.pause {
						t.Errorf("paused %v, want %v", pause, c.pause)
					}
					if c.turn < giveWayTurn {
						p.began = time.Now()
					}
				}
			})
		})
	}
}
