package send

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestThePaceIsExactOverAnySpanAndDoesNotDrift(t *testing.T) {
	for _, rate := range []float64{1, 3, 1000, 4999, 20_000, 250_000, 1e6} {
		s := schedule{rate: rate, batchSize: 1}
		for _, from := range []time.Duration{0, time.Second, time.Hour, 30 * 24 * time.Hour} {
			for range 100 {
				from += time.Duration(rand.Int64N(int64(time.Second)))
				// Every second has as many batches as the rate, also after a month. A second
				// that begins between two batches has one more or less.
				n := s.countDueBefore(from+time.Second) - s.countDueBefore(from)
				if math.Abs(float64(n)-rate) > 1 {
					t.Fatalf("rate %v: %d batches in the second after %v", rate, n, from)
				}
				if all := float64(s.countDueBefore(from)); math.Abs(all-from.Seconds()*rate) > 1.001 {
					t.Fatalf("rate %v: %v batches before %v", rate, all, from)
				}
			}
			for k := s.countDueBefore(from); k < s.countDueBefore(from)+1000; k++ {
				if s.due(k+1) < s.due(k) || s.countDueBefore(s.due(k)) > k {
					t.Fatalf("rate %v: batch %d is due at %v, the next one at %v", rate, k, s.due(k), s.due(k+1))
				}
			}
		}
	}
}

func TestARateAndADurationDetermineTheCount(t *testing.T) {
	for _, c := range []struct {
		o               Options
		usages, batches int64
	}{
		{Options{Rate: 1000, Duration: 2 * time.Second, Batch: 1}, 2000, 2000},
		{Options{Rate: 3, Duration: time.Second, Batch: 1}, 3, 3},
		{Options{Rate: 2.5, Duration: time.Second, Batch: 1}, 3, 3}, // at 0, 0.4 and 0.8 s
		{Options{Rate: 1000, Duration: time.Second, Batch: 300}, 1000, 4},
		{Options{Rate: 1000, Duration: time.Second, Count: 10, Batch: 3}, 10, 4},
		{Options{Count: 10, Batch: 5}, 10, 2},
	} {
		p := newPlan(c.o)
		if p.usages != c.usages || p.batches != c.batches {
			t.Errorf("%+v: %d usages in %d batches", c.o, p.usages, p.batches)
		}
		sum := int64(0)
		for k := range p.batches {
			sum += p.size(k)
		}
		if sum != c.usages {
			t.Errorf("%+v: %d usages in all batches, want %d", c.o, sum, c.usages)
		}
	}
}

func TestOnlyDueBatchesAreClaimed(t *testing.T) {
	p := newPlan(Options{Rate: 1000, Count: 100_000, Batch: 1})
	p.start = time.Now().Add(time.Hour)
	if _, n, wait := p.claim(64); n != 0 || wait < 59*time.Minute {
		t.Errorf("before the start: %d batches, the next one in %v", n, wait)
	}
	p.start = time.Now().Add(-10*time.Second - 500*time.Microsecond)
	claimed := int64(0)
	for {
		from, n, wait := p.claim(64)
		if n == 0 {
			if wait <= 0 || wait > time.Millisecond {
				t.Errorf("the next batch is due in %v, want at most 1 ms", wait)
			}
			break
		}
		if from != claimed {
			t.Fatalf("batch %d was claimed after %d batches", from, claimed)
		}
		claimed = from + n
	}
	if passed := int64(time.Since(p.start)/time.Millisecond) + 1; claimed < 10_001 || claimed > passed {
		t.Errorf("%d batches claimed after 10 s, %d are due", claimed, passed)
	}
	p.start = p.start.Add(-time.Hour)
	for n := int64(1); n > 0; {
		var from int64
		if from, n, _ = p.claim(64); n > 0 {
			claimed = from + n
		}
	}
	if claimed != 100_000 {
		t.Errorf("%d of 100000 batches claimed in the end", claimed)
	}
}
