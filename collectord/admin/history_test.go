package admin

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"collectord/collectord/histogram"
	"collectord/wal"
)

// newSample returns a sample with these counts.
func newSample(at time.Time, accepted, rejected, dropped, pending, objects uint64, commits histogram.Distribution) sample {
	s := sample{at: at}
	s.Ledger.BySource[wal.HTTP] = wal.SourceLedger{Accepted: accepted, Rejected: map[string]uint64{"log_full": rejected}}
	s.Ledger.BySource[wal.UDP] = wal.SourceLedger{Dropped: map[string]uint64{"commit_failed": dropped}}
	s.Ledger.Pending, s.Shipper.Objects, s.Log.CommitSeconds = pending, objects, commits
	return s
}

func sameInterval(a, b interval) bool {
	same := func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) }
	return same(a.accepted, b.accepted) && same(a.refused, b.refused) && same(a.p50, b.p50) && same(a.p99, b.p99) &&
		same(a.backlog, b.backlog) && same(a.objects, b.objects)
}

func TestAnIntervalCountsItsOwnEvents(t *testing.T) {
	now := time.Now()
	h, commits := newHistory(now.Add(-sampleInterval)), histogram.New(uint64(time.Millisecond), 1, 10)
	commits.ObserveTime(2 * time.Second)
	h.add(newSample(now, 1000, 100, 10, 5, 3, commits.Seconds()))
	for range 100 {
		commits.ObserveTime(2 * time.Millisecond)
	}
	h.add(newSample(now.Add(sampleInterval), 1250, 120, 30, 7, 4, commits.Seconds()))
	h.add(newSample(now.Add(sampleInterval+sampleInterval/4), 2000, 0, 0, 0, 9, commits.Seconds())) // too early for an interval
	h.add(newSample(now.Add(2*sampleInterval), 1250, 120, 30, 0, 4, commits.Seconds()))
	all, nan := h.hour(), math.NaN()
	for i, want := range []interval{
		{accepted: 100, refused: 11, p50: 0.512, p99: 0.512, backlog: 5, objects: 3},
		{accepted: 25, refused: 4, p50: 0.0015, p99: 0.00199, backlog: 7, objects: 1},
		{p50: nan, p99: nan}, // no commit
	} {
		if got := all[intervals-3+i]; !sameInterval(got, want) {
			t.Errorf("interval %d: %+v, want %+v", i, got, want)
		}
	}
}

func TestWhatWasNotSampledIsUnknown(t *testing.T) {
	for _, missing := range []int{1, 5, intervals, 10 * intervals} {
		now := time.Now()
		h := newHistory(now.Add(-sampleInterval))
		for i := range uint64(3) {
			h.add(newSample(now.Add(time.Duration(i)*sampleInterval), i, 0, 0, i, 0, histogram.Distribution{}))
		}
		now = now.Add(time.Duration(2+missing+1) * sampleInterval)
		h.add(newSample(now, 100, 0, 0, 42, 0, histogram.Distribution{}))
		all := h.hour()
		if len(all) != intervals || all[intervals-1].backlog != 42 {
			t.Fatalf("%d missing: the latest sample of %d is %+v", missing, len(all), all[len(all)-1])
		}
		for i := range min(missing, intervals-1) {
			if !sameInterval(all[intervals-2-i], unknown()) {
				t.Errorf("%d missing: %d before the latest is %+v", missing, i+1, all[intervals-2-i])
			}
		}
		if before := intervals - 2 - missing; before >= 0 && all[before].backlog != 2 {
			t.Errorf("%d missing: before them is %+v", missing, all[before])
		}
	}
}

func TestTheHistoryIsAnHourOfFixedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := uint64(0)
		m := NewMonitor(MonitorOptions{Began: time.Now(), Snapshot: func() (Snapshot, bool) {
			n++
			return newSample(time.Now(), n, 0, 0, n, 0, histogram.Distribution{}).Snapshot, n > 2 // the daemon is starting before that
		}})
		done, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			m.Run(done)
		}()
		time.Sleep(3*time.Hour + time.Second)
		close(done)
		<-ended
		all := m.hour.hour()
		if first, last := all[0], all[intervals-1]; first.backlog != float64(n-uint64(intervals)+1) || last.backlog != float64(n) || last.accepted != 0.1 {
			t.Errorf("after %d samples the intervals go from %+v to %+v", n, first, last)
		}
	})
	if size := unsafe.Sizeof(history{}); size > 32<<10 {
		t.Errorf("the history has %d bytes", size)
	} else {
		t.Logf("the history has %d bytes, without the distribution that it refers to", size)
	}
}
