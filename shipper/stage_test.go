package shipper

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// maxConcurrent records how many calls run at once.
type maxConcurrent struct{ current, max atomic.Int64 }

func (h *maxConcurrent) begin() (end func()) {
	n := h.current.Add(1)
	for m := h.max.Load(); n > m && !h.max.CompareAndSwap(m, n); m = h.max.Load() {
	}
	return func() { h.current.Add(-1) }
}

// TestASegmentIsCompressedWhileAnotherIsUploaded: an upload mostly waits for the network. The
// limit of concurrency applies to compressions and to uploads separately.
func TestASegmentIsCompressedWhileAnotherIsUploaded(t *testing.T) {
	t.Parallel()
	const segments = 8
	f, store := newFake(t)
	probeStore(t, store)
	var compressed atomic.Int64
	var compressing, uploading maxConcurrent
	second := make(chan struct{})
	f.Behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "dt=") {
			defer uploading.begin()()
			<-second
		}
		return false
	}})
	l := openLog(t, t.TempDir())
	fill(t, l, segments, 1)
	s := startWith(t, l, store, Options{Limits: Limits{Concurrency: 1}, OnCompress: func() func() {
		end := compressing.begin()
		return func() {
			end()
			if compressed.Add(1) == 2 {
				close(second)
			}
		}
	}})
	drain(t, s, 0)
	checkStoredOnce(t, store, segments)
	if n := s.Stats().Failures[bucket.Timeout]; n > 0 {
		t.Errorf("%d uploads timed out before another segment was compressed", n)
	}
	if compressing.max.Load() != 1 || uploading.max.Load() != 1 {
		t.Errorf("%d compressions and %d uploads ran at once, want 1 and 1", compressing.max.Load(), uploading.max.Load())
	}
}

func TestAStageIsEnteredInOrderAndWhenItsLimitIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stage
		ctx, cancel := context.WithCancel(t.Context())
		var in, stopped [4]atomic.Bool
		for i := range in {
			turn := s.join()
			go func() {
				if s.enter(ctx, turn) == nil {
					in[i].Store(true)
				} else {
					stopped[i].Store(true)
				}
			}()
		}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			got := ""
			for i := range in {
				switch {
				case in[i].Load():
					got += "i"
				case stopped[i].Load():
					got += "s"
				default:
					got += "-"
				}
			}
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		expect("----")
		s.setLimit(1)
		expect("i---")
		s.leave()
		expect("ii--")
		s.setLimit(0)
		s.leave()
		expect("ii--")
		s.setLimit(1)
		expect("iii-")
		cancel()
		expect("iiis")
		s.leave()
		if s.inside != 0 || len(s.waiting) != 0 {
			t.Errorf("%d are inside and %d wait, want none", s.inside, len(s.waiting))
		}
		for range 100 { // an attempt that gives up its turn frees its place
			ended, end := context.WithCancel(t.Context())
			end()
			if turn := s.join(); s.enter(ended, turn) == nil {
				s.leave()
			}
		}
		if s.inside != 0 {
			t.Errorf("%d are inside, want none", s.inside)
		}
	})
}
