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

// told returns a Snapshot of so many usages.
func told(accepted, rejected, dropped, pending, objects uint64, commits histogram.Distribution) *Snapshot {
	s := &Snapshot{}
	s.Ledger.BySource[wal.HTTP] = wal.SourceLedger{Accepted: accepted, Rejected: map[string]uint64{"log_full": rejected}}
	s.Ledger.BySource[wal.UDP] = wal.SourceLedger{Dropped: map[string]uint64{"commit_failed": dropped}}
	s.Ledger.Pending, s.Shipper.Objects, s.Log.CommitSeconds = pending, objects, commits
	return s
}

func sameSample(a, b sample) bool {
	same := func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) }
	return same(a.accepted, b.accepted) && same(a.refused, b.refused) && same(a.p50, b.p50) && same(a.p99, b.p99) &&
		same(a.backlog, b.backlog) && same(a.objects, b.objects)
}

func TestASampleIsWhatHappenedInItsInterval(t *testing.T) {
	h, commits, now := newHistory(), histogram.New(uint64(time.Millisecond), 1, 10), time.Now()
	commits.ObserveTime(time.Second) // before the first reading, so in no sample
	h.add(now, told(1000, 100, 10, 5, 3, commits.Seconds()))
	for range 100 {
		commits.ObserveTime(2 * time.Millisecond)
	}
	h.add(now.Add(sampleInterval), told(1250, 120, 30, 7, 4, commits.Seconds()))
	h.add(now.Add(sampleInterval+sampleInterval/4), told(2000, 0, 0, 0, 9, commits.Seconds())) // too soon to be one
	h.add(now.Add(2*sampleInterval), told(1250, 120, 30, 0, 4, commits.Seconds()))
	all, nan := h.samples(), math.NaN()
	for i, want := range []sample{
		unknown(),
		{accepted: 25, refused: 4, p50: 0.0015, p99: 0.00199, backlog: 7, objects: 1},
		{p50: nan, p99: nan}, // no commit
	} {
		if got := all[sampleCount-3+i]; !sameSample(got, want) {
			t.Errorf("sample %d: %+v, want %+v", i, got, want)
		}
	}
}

func TestWhatWasNotSampledIsUnknown(t *testing.T) {
	for _, missing := range []int{1, 5, sampleCount, 10 * sampleCount} {
		h, now := newHistory(), time.Now()
		for i := range uint64(3) {
			h.add(now.Add(time.Duration(i)*sampleInterval), told(i, 0, 0, i, 0, histogram.Distribution{}))
		}
		now = now.Add(time.Duration(2+missing+1) * sampleInterval)
		h.add(now, told(100, 0, 0, 42, 0, histogram.Distribution{}))
		all := h.samples()
		if len(all) != sampleCount || all[sampleCount-1].backlog != 42 {
			t.Fatalf("%d missing: the latest sample of %d is %+v", missing, len(all), all[len(all)-1])
		}
		for i := range min(missing, sampleCount-1) {
			if !sameSample(all[sampleCount-2-i], unknown()) {
				t.Errorf("%d missing: %d before the latest is %+v", missing, i+1, all[sampleCount-2-i])
			}
		}
		if before := sampleCount - 2 - missing; before >= 0 && all[before].backlog != 2 {
			t.Errorf("%d missing: before them is %+v", missing, all[before])
		}
	}
}

func TestTheHistoryIsAnHourOfFixedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, n := newHistory(), uint64(0)
		done, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			h.run(func() (Snapshot, bool) {
				n++
				return *told(n, 0, 0, n, 0, histogram.Distribution{}), n > 2 // before that it starts
			}, done)
		}()
		time.Sleep(3*time.Hour + time.Second)
		close(done)
		<-ended
		all := h.samples()
		if first, last := all[0], all[sampleCount-1]; first.backlog != float64(n-sampleCount+1) || last.backlog != float64(n) || last.accepted != 0.1 {
			t.Errorf("after %d readings the samples go from %+v to %+v", n, first, last)
		}
	})
	if size := unsafe.Sizeof(history{}); size > 32<<10 {
		t.Errorf("the history has %d bytes", size)
	} else {
		t.Logf("the history has %d bytes, beside one distribution", size)
	}
}
