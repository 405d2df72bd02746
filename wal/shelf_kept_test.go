package wal

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
)

// keepSealed keeps all sealed segments and returns them.
func keepSealed(l *Log) []*Segment {
	all, _ := l.Sealed()
	for _, s := range all {
		s.Keep()
	}
	return all
}

// appendSealed appends a usage and seals it in a segment of its own.
func appendSealed(t *testing.T, l *Log, n int) *Segment {
	t.Helper()
	mustAppend(t, l, Record{Usage: usage(n)})
	mustSeal(t, l)
	all, _ := l.Sealed()
	return all[len(all)-1]
}

// listedBytes returns the bytes of the sealed and kept segments of a log, or 0 before
// it is open.
func listedBytes(opened *atomic.Pointer[Log]) int64 {
	l := opened.Load()
	if l == nil {
		return 0
	}
	l.shelf.lock()
	defer l.shelf.unlock()
	return l.shelf.sealedBytes
}

func TestAKeptSegmentCountsAsShippedAndStaysReadable(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	one := appendSealed(t, l, 1)
	one.Keep()
	one.Keep()
	if g := checkLedger(t, l); g.Shipped != 1 || g.Pending != 0 {
		t.Errorf("ledger %+v", g)
	}
	if all, _ := l.Sealed(); len(all) > 0 {
		t.Errorf("kept segments are listed as sealed: %v", all)
	}
	if stats := l.Stats(); stats.OldestUnshipped > 0 || stats.SealedSegments != 0 || stats.KeptSegments != 1 || stats.KeptBytes != one.Bytes() || stats.Bytes < one.Bytes() {
		t.Errorf("stats %+v", stats)
	}
	if below, err := l.Unconfirmed(); below != 1 || err != nil {
		t.Errorf("confirmed below seq %d, %v", below, err)
	}
	if changed, err := l.Salvage(one); changed || err != nil {
		t.Errorf("salvaged: %t, %v", changed, err)
	}
	if err := one.Split(); !errors.Is(err, ErrRemoved) {
		t.Errorf("split: %v", err)
	}
	if one.Hold() {
		t.Error("a kept segment can be held")
	}
	for r, err := range one.Records() {
		if err != nil || !bytes.Equal(r.Usage, usage(1)) {
			t.Errorf("%v, %v", r, err)
		}
	}
	if err := one.Remove(); err != nil || one.IsKept() {
		t.Errorf("removed: %v; kept: %t", err, one.IsKept())
	}
	one.Keep()
	if g := checkLedger(t, l); g.Shipped != 1 || one.Relist() {
		t.Errorf("ledger %+v", g)
	}
	if below, err := l.Unconfirmed(); below != math.MaxUint64 && below < 2 || err != nil {
		t.Errorf("confirmed below seq %d, %v", below, err)
	}
	if stats := l.Stats(); stats.KeptSegments != 0 || stats.KeptCutShort != 0 || l.shelf.keptBytes != 0 || l.shelf.sealedBytes != 0 {
		t.Errorf("stats %+v", stats)
	}
	if _, err := l.disk.Stat(filepath.Join(dir, "wal", segment.SealedName(1, 1))); err == nil {
		t.Error("the segment was not deleted")
	}
}

func TestSegmentsLostByTheStoragePendAgain(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	one, two := appendSealed(t, l, 1), appendSealed(t, l, 2)
	two.Keep()
	_, more := l.Sealed()
	one.Keep()
	if !one.Relist() || one.Relist() {
		t.Fatal("not listed again, or twice")
	}
	<-more
	if all, _ := l.Sealed(); !slices.Equal(all, []*Segment{one}) {
		t.Errorf("listed as sealed: %v", all)
	}
	if g := checkLedger(t, l); g.Pending != 1 || g.Shipped != 2 || g.Recovered != 1 {
		t.Errorf("ledger %+v", g)
	}
	if l.Stats().OldestUnshipped == 0 {
		t.Error("OldestUnshipped is 0")
	}
	if !one.Hold() {
		t.Error("the relisted segment can't be held")
	}
	one.Keep()
	two.Keep()
	if g := checkLedger(t, l); g.Pending != 0 || g.Shipped != 3 || l.shelf.keptBytes != one.bytes+two.bytes {
		t.Errorf("ledger %+v", g)
	}
}

func TestAfterARestartKeptSegmentsArePending(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	one := appendSealed(t, l, 1)
	if one.Keep(); one.FoundAtStart() {
		t.Error("a new segment counts as found at start")
	}
	mustClose(t, l)
	l = openLog(t, dir, Options{})
	all, _ := l.Sealed()
	if g := checkLedger(t, l); g.Pending != 1 || g.Recovered != 1 || len(all) != 1 || !all[0].FoundAtStart() {
		t.Errorf("ledger %+v", g)
	}
}

// TestNoAppendIsRefusedForKeptSegments ships all sealed segments beyond a backlog. The
// log and the disk are too small to keep them all.
func TestNoAppendIsRefusedForKeptSegments(t *testing.T) {
	for name, o := range map[string]Options{
		"max_bytes":              {MaxBytes: 64 << 10},
		"max_bytes, drop_oldest": {MaxBytes: 64 << 10, WhenFull: DropOldest},
		"min_free":               {MinFree: 40 << 10},
		"min_free, drop_oldest":  {MinFree: 40 << 10, WhenFull: DropOldest},
	} {
		backlog := 44 << 10 / 2500 // segments
		if o.MinFree > 0 {
			backlog = 100 << 10 / 2500
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var opened atomic.Pointer[Log]
				var others atomic.Int64 // bytes of other programs on the disk
				var logged logBuffer
				o.SegmentSize, o.Logger = 2<<10, slog.New(slog.NewTextHandler(&logged, nil))
				dir := memoryDir(t)
				if o.MinFree > 0 {
					o = o.WithFree(func(string) (int64, error) { return 200<<10 - listedBytes(&opened) - others.Load(), nil })
				}
				l := openLog(t, dir, o)
				opened.Store(l)
				var wg sync.WaitGroup
				done := make(chan struct{})
				wg.Go(func() {
					for {
						all, more := l.Sealed()
						for len(all) > backlog {
							all[0].Keep()
							all = all[1:]
						}
						if s := l.Stats(); s.KeptBytes > s.MaxBytes/4 {
							t.Errorf("%d bytes are kept", s.KeptBytes)
						}
						select {
						case <-done:
							return
						case <-more:
						}
					}
				})
				for i := range 2000 {
					mustAppend(t, l, Record{Usage: []byte(`{"x":"` + strings.Repeat("x", 300) + `"}`)})
					synctest.Wait() // until the backlog has its intended length
					if i%100 == 0 {
						others.Store(int64(i % 200 / 100 * 45 << 10)) // more than is free without removing kept segments
						time.Sleep(boundsInterval)
					}
				}
				others.Store(0)
				time.Sleep(boundsInterval)
				mustSeal(t, l)
				synctest.Wait()
				close(done)
				wg.Wait()
				stats, g := l.Stats(), checkLedger(t, l)
				if g.Evicted > 0 || stats.LossNotes > 0 || stats.KeptCutShort == 0 || stats.KeptSegments == 0 {
					t.Errorf("evicted %d, %d loss notes, kept %d, released %d", g.Evicted, stats.LossNotes, stats.KeptSegments, stats.KeptCutShort)
				}
				if stats.SecondsUntilFull < math.Inf(1) {
					t.Errorf("full in %v s", stats.SecondsUntilFull)
				}
				if n := strings.Count(logged.text.String(), "before the time to keep them"); n != 1 {
					t.Errorf("logged %d times:\n%s", n, logged.text.String())
				}
				mustClose(t, l)
			})
		})
	}
}

// TestKeptSegmentsMakeWayForPendingOnes fills a log whose segments can no longer be
// shipped.
func TestKeptSegmentsMakeWayForPendingOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, memoryDir(t), Options{MaxBytes: 64 << 10, SegmentSize: 2 << 10})
		big := Record{Usage: []byte(`{"x":"` + strings.Repeat("x", 1000) + `"}`)}
		for range 10 {
			mustAppend(t, l, big)
		}
		mustSeal(t, l)
		kept := keepSealed(l)
		n := 0
		for ; l.Append(context.Background(), big) == nil; n++ {
			time.Sleep(10 * time.Millisecond)
		}
		for _, s := range kept {
			if s.IsKept() || s.Relist() {
				t.Errorf("%s is kept in a full log", s)
			}
		}
		if stats := l.Stats(); n < 50 || stats.KeptSegments > 0 || stats.LossNotes > 0 || stats.KeptCutShort != uint64(len(kept)) {
			t.Errorf("%d appends, stats %+v", n, stats)
		}
		checkLedger(t, l)
		mustClose(t, l)
	})
}

// TestAKeptSegmentThatCantBeDeletedTakesRoom makes deletions fail. The space of an
// undeletable segment counts as used, and other kept segments are not removed in vain.
func TestAKeptSegmentThatCantBeDeletedTakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		l := openLog(t, memoryDir(t), Options{SegmentSize: 2 << 10, ProbeMin: time.Hour, ProbeMax: time.Hour}.WithDisk(func(_, path string) error {
			if fails.Load() && strings.HasSuffix(path, goneSuffix) {
				return syscall.EIO
			}
			return nil
		}))
		for n := range 8 {
			appendSealed(t, l, n)
		}
		kept := keepSealed(l)
		fails.Store(true)
		l.SetLimits(Limits{MaxBytes: 4 * kept[0].Bytes(), ProbeMin: time.Hour, ProbeMax: time.Hour})
		time.Sleep(10 * boundsInterval)
		stats := l.Stats()
		if stats.KeptCutShort != 1 || stats.KeptSegments != len(kept)-1 {
			t.Errorf("stats %+v", stats)
		}
		l.shelf.lock()
		if want := kept[0].Bytes() * int64(len(kept)-1); l.shelf.keptBytes != want {
			t.Errorf("%d bytes count as kept, want %d", l.shelf.keptBytes, want)
		}
		l.shelf.unlock()
		fails.Store(false)
		l.SetLimits(Limits{MaxBytes: 4 * kept[0].Bytes(), ProbeMin: time.Millisecond})
		time.Sleep(2 * time.Hour)
		if stats := l.Stats(); stats.KeptSegments > 1 || stats.RemovalErrors == 0 {
			t.Errorf("stats %+v", stats)
		}
		mustClose(t, l)
	})
}

// TestALoweredBoundReleasesKeptSegments lowers each bound so far that kept segments
// have no space. Meanwhile nothing is refused and nothing is evicted.
func TestALoweredBoundReleasesKeptSegments(t *testing.T) {
	for name, limits := range map[string]func(size int64) Limits{
		"max_bytes":      func(size int64) Limits { return Limits{MaxBytes: 6 * size, WhenFull: DropOldest} },
		"twice min_free": func(int64) Limits { return Limits{MinFree: 600 << 10, WhenFull: DropOldest} },
		"min_free":       func(size int64) Limits { return Limits{MinFree: 1<<20 + size} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opened atomic.Pointer[Log]
				var size atomic.Int64 // size of a segment
				l := openLog(t, memoryDir(t), Options{}.WithFree(func(string) (int64, error) {
					if size.Load() == 0 {
						return math.MaxInt64, nil
					}
					return 1<<20 + 6*size.Load() - listedBytes(&opened), nil
				}))
				opened.Store(l)
				for range 6 {
					mustAppend(t, l, Record{Usage: []byte(`{"x":"` + strings.Repeat("x", 5000) + `"}`)})
					mustSeal(t, l)
				}
				all, _ := l.Sealed()
				size.Store(all[0].Bytes())
				for _, s := range all[:4] {
					s.Keep()
				}
				time.Sleep(2 * boundsInterval)
				if l.Stats().KeptSegments != 4 {
					t.Fatalf("stats %+v", l.Stats())
				}
				l.SetLimits(limits(size.Load()))
				if err := l.Full(); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * boundsInterval)
				if s, g := l.Stats(), checkLedger(t, l); s.KeptSegments > 1 || name != "max_bytes" && s.KeptSegments > 0 || g.Evicted > 0 {
					t.Errorf("kept %d, ledger %+v", s.KeptSegments, g)
				}
				mustClose(t, l)
			})
		})
	}
}
