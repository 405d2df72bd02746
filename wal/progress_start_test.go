package wal

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestProgressOfALogThatHasNotStarted(t *testing.T) {
	for range 200 {
		l := newLog(Options{Node: "a"}.withDefaults(), t.TempDir())
		var wg sync.WaitGroup
		var stop atomic.Bool
		for range 4 {
			wg.Go(func() {
				for !stop.Load() {
					last, below, err := l.Progress()
					if err == nil {
						if below > last+1 || below == 0 {
							t.Errorf("last %d, below %d", last, below)
						}
						return
					}
				}
			})
		}
		if err := l.start(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		stop.Store(true)
		_ = l.Close()
		if t.Failed() {
			return
		}
	}
}
