package wal

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"collectord/collectord/testrun"
)

func TestProgressOfALogThatHasNotStarted(t *testing.T) {
	for range 200 / testrun.OneIn(4) { // the race is rare; TEST_ALL=1 tries more often
		l := newLog(Options{Node: "a", SegmentSize: 4 << 10}.withDefaults(), memoryDir(t))
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
					runtime.Gosched() // otherwise the start gets no processor for 10 ms after each call
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
