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

// highest notes how many do something at once.
type highest struct{ now, most atomic.Int64 }

func (h *highest) begin() (end func()) {
	n := h.now.Add(1)
	for m := h.most.Load(); n > m && !h.most.CompareAndSwap(m, n); m = h.most.Load() {
	}
	return func() { h.now.Add(-1) }
}

// TestASegmentIsCompressedWhileAnotherIsUploaded: what an upload takes is mostly the way
// to the storage and back. Neither is done more often at once than uploads are allowed.
func TestASegmentIsCompressedWhileAnotherIsUploaded(t *testing.T) {
	t.Parallel()
	const segments = 8
	f, store := newFake(t)
	probed(t, store)
	var compressed atomic.Int64
	var compressing, uploading highest
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
	s := startWith(t, l, store, Options{Limits: Limits{Concurrency: 1}, Compress: func() func() {
		end := compressing.begin()
		return func() {
			end()
			if compressed.Add(1) == 2 {
				close(second)
			}
		}
	}})
	drain(t, s, 0)
	checkOnce(t, store, segments)
	if n := s.Stats().Failures[bucket.Timeout]; n > 0 {
		t.Errorf("%d uploads were given up before another segment was compressed", n)
	}
	if compressing.most.Load() != 1 || uploading.most.Load() != 1 {
		t.Errorf("%d were compressed and %d uploaded at once", compressing.most.Load(), uploading.most.Load())
	}
}

func TestAStageHasRoomOnceItsLimitIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		ctx, cancel := context.WithCancel(t.Context())
		var in, stopped atomic.Int64
		for range 3 {
			go func() {
				if s.enter(ctx) == nil {
					in.Add(1)
				} else {
					stopped.Add(1)
				}
			}()
		}
		expect := func(wantIn, wantStopped int64) {
			t.Helper()
			synctest.Wait()
			if in.Load() != wantIn || stopped.Load() != wantStopped {
				t.Errorf("%d are in, and %d have stopped waiting, want %d and %d", in.Load(), stopped.Load(), wantIn, wantStopped)
			}
		}
		expect(0, 0)
		s.setLimit(1)
		expect(1, 0)
		s.leave()
		expect(2, 0)
		s.setLimit(0)
		s.leave()
		expect(2, 0)
		cancel()
		expect(2, 1)
	})
}
