package wal

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
)

// TestUDPRecordsShareCommitsAndDelayNobody runs in a synctest bubble, whose clock
// advances only during sleeps.
func TestUDPRecordsShareCommitsAndDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, memoryDir(t), Options{SegmentSize: 4 << 20})
		commits, began := uint64(0), time.Now()
		enqueue := func(usage []byte) {
			t.Helper()
			if l.Enqueue(Record{Usage: usage, Source: UDP}) != 1 {
				t.Fatal("a record was refused")
			}
		}
		expect := func(what string, more, waiting uint64, took time.Duration) {
			t.Helper()
			synctest.Wait()
			commits += more
			if got, g := l.Stats().CommitRecords.Count(), checkLedger(t, l); got != commits || g.BySource[UDP].Waiting != waiting {
				t.Errorf("%s: %d commits, want %d; %d records wait, want %d", what, got, commits, g.BySource[UDP].Waiting, waiting)
			}
			if now := time.Since(began); now != took {
				t.Errorf("%s: after %v, want %v", what, now, took)
			}
			began = time.Now()
		}
		expect("the start", 0, 0, 0)

		const step = maxStagedWait / 20
		for i := range 20 {
			enqueue(usage(i))
			expect("records that wait for others", 0, uint64(i+1), 0)
			time.Sleep(step)
			began = time.Now()
		}
		expect("records of which the first has waited", 1, 0, 0)

		enqueue(usage(20))
		mustAppend(t, l, Record{Usage: usage(21)})
		expect("an append, which takes them along", 1, 0, 0)

		const size, full = 2048 + segment.RecordOverhead, segment.MaxFrame / (2048 + segment.RecordOverhead)
		for range full + 100 {
			enqueue(bytes.Repeat([]byte("x"), 2048))
		}
		expect("more than a block", 1, 100, 0)
		time.Sleep(maxStagedWait)
		expect("the rest of them", 1, 0, maxStagedWait)

		l.SetLimits(Limits{QueueBytes: 40 * size})
		for range 30 {
			enqueue(bytes.Repeat([]byte("x"), 2048))
			synctest.Wait()
		}
		expect("a queue that is smaller than a block", 3, 3, 0)

		mustSeal(t, l)
		expect("a request to seal", 1, 0, 0)
		enqueue(usage(22))
		mustClose(t, l)
		expect("a shutdown", 1, 0, 0)
	})
}
