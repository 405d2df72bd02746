package wal

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/testrun"
	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// simulation is a daemon on the clock of a synctest bubble. It appends load bytes per
// second, and a storage takes each sealed segment while the storage is reachable.
type simulation struct {
	t           *testing.T
	log         *Log
	load        int
	storageDown bool // the storage can't be reached
}

// second advances the clock by a second.
func (s *simulation) second() error {
	err := s.log.Append(context.Background(), Record{Usage: make([]byte, s.load)})
	time.Sleep(time.Second) // of synctest's clock
	synctest.Wait()
	if !s.storageDown {
		segments, _ := s.log.Sealed()
		for _, seg := range segments {
			if err := seg.Remove(); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	return err
}

func (s *simulation) seconds(n int) {
	s.t.Helper()
	for range n {
		if err := s.second(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestSecondsUntilFullPredictsWhenAnOutageFillsTheLog simulates a storage that becomes
// unreachable under constant load, and asserts that the forecast is right within a
// factor of two.
func TestSecondsUntilFullPredictsWhenAnOutageFillsTheLog(t *testing.T) {
	const load = 16 << 10
	for name, o := range map[string]Options{
		"max_bytes":   {MaxBytes: 16 << 20},
		"min_free":    {MinFree: 1 << 20},
		"drop_oldest": {MaxBytes: 16 << 20, WhenFull: DropOldest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := memoryDir(t)
				var otherBytes atomic.Int64 // bytes that other programs use of 16 MiB
				o.SegmentSize, o.SealAfter, o.BoundsInterval = 128<<10, 20*time.Second, time.Duration(testrun.OneIn(4))*boundsInterval
				o = o.WithDatasync(func(vfs.File) error { return nil }).WithFree(func(dir string) (int64, error) {
					if o.MinFree == 0 {
						return 1 << 40, nil
					}
					return 17<<20 - vfs.OSDisk().SizeBelow(dir) - otherBytes.Load(), nil
				})
				s := &simulation{t: t, log: openLog(t, dir, o), load: load}
				until := func() float64 { return s.log.Stats().SecondsUntilFull }

				s.seconds(20)
				if got := until(); !math.IsInf(got, 1) {
					t.Errorf("after 20 s, too short to tell: %v", got)
				}
				s.seconds(900)
				if got := until(); got < 24*3600 {
					t.Errorf("while the storage takes everything: %v s", got)
				}

				s.storageDown = true
				s.seconds(480)
				predicted := []float64{until()} // one prediction per second
				for s.second() == nil && s.log.Ledger().Evicted == 0 {
					predicted = append(predicted, until())
				}
				t.Logf("predicted %.0f s, took %d s", predicted[0], len(predicted))
				for second, f := range predicted {
					took := float64(len(predicted) - second)
					if took > 60 && (f < took/2 || f > 2*took) {
						t.Fatalf("at second %d the prediction was %.0f s, it took %.0f s", second, f, took)
					}
				}
				if got := until(); o.WhenFull == Reject && got != 0 || got > 30 {
					t.Errorf("full: %v", got)
				}

				s.storageDown = false
				for s.second() != nil { // the first second removes the remaining segments
					if t.Failed() {
						return
					}
				}
				s.seconds(900)
				if got := until(); got < 24*3600 {
					t.Errorf("after the outage: %v s", got)
				}
			})
		})
	}
}

// A file archive beside the log, or another program, also fills the disk.
func TestSecondsUntilFullCountsTheBytesOfOtherPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := int64(10 << 30)
		s := &simulation{t: t, load: 100, log: openLog(t, t.TempDir(), Options{
			MinFree: 1 << 30,
		}.WithFree(func(string) (int64, error) { free -= 1 << 20; return free, nil }).WithDatasync(func(vfs.File) error { return nil }))}
		s.seconds(300)
		if got, want := s.log.Stats().SecondsUntilFull, float64((free-1<<30)>>20); math.Abs(got-want) > want/100 {
			t.Errorf("%v s, want %v", got, want)
		}
	})
}

// TestSecondsUntilFullIgnoresWhatAStartAllocates has a disk that loses 8 MiB in the first
// seconds, for the segments and the spool, and nothing after that.
func TestSecondsUntilFullIgnoresWhatAStartAllocates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &simulation{t: t, load: 100, log: openLog(t, t.TempDir(), Options{
			MinFree: 4 << 20,
		}.WithFree(func(string) (int64, error) {
			if time.Since(began) > 5*time.Second {
				return 332 << 20, nil
			}
			return 340 << 20, nil
		}).WithDatasync(func(vfs.File) error { return nil }))}
		for range 300 {
			s.seconds(1)
			if got := s.log.Stats().SecondsUntilFull; got < 24*3600 {
				t.Fatalf("after %v: full in %.0f s", time.Since(began), got)
			}
		}
	})
}

func TestOldestUnshippedCountsFromTheOldestWhateverTheClockDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var jump atomic.Int64
		o := Options{
			SealAfter: time.Hour,
			clock:     func() time.Time { return time.Now().Add(time.Duration(jump.Load())) },
		}.WithDatasync(func(vfs.File) error { return nil })
		l := openLog(t, dir, o)
		pass := func(d time.Duration) {
			time.Sleep(d) // of synctest's clock
			synctest.Wait()
		}
		age := func(want time.Duration) {
			t.Helper()
			if got := l.Stats().OldestUnshipped; got.Round(time.Second) != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
		age(0)
		pass(time.Minute)
		age(0)
		mustAppend(t, l, Record{Usage: usage(0)}) // active
		pass(time.Minute)
		age(time.Minute)
		jump.Store(int64(-20 * time.Minute))
		age(time.Minute)
		jump.Store(int64(20 * time.Minute))
		pass(time.Minute)
		age(2 * time.Minute)
		mustSeal(t, l) // sealed
		age(2 * time.Minute)
		mustAppend(t, l, Record{Usage: usage(1)})
		pass(time.Minute)
		age(3 * time.Minute)
		mustClose(t, l)

		pass(time.Minute)
		jump.Store(0)
		l = openLog(t, dir, o) // found at start
		age(4 * time.Minute)
		jump.Store(-int64(24 * time.Hour))
		pass(time.Minute)
		age(5 * time.Minute)
		segments, _ := l.Sealed()
		if err := segments[0].Remove(); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		jump.Store(int64(20 * time.Minute))
		if err := segments[1].Remove(); err != nil {
			t.Fatal(err)
		}
		age(0)
		mustClose(t, l)
	})
}

// The age of a segment counts even if the segment can't be sealed.
func TestOldestUnshippedCountsUnsealedSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, t.TempDir(), Options{}.WithDatasync(func(vfs.File) error { return nil }))
		mustAppend(t, l, Record{Usage: usage(0)})
		blocker := filepath.Join(l.dir, segment.SealedName(1, 1))
		if err := os.MkdirAll(filepath.Join(blocker, "in the way"), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := l.Seal(context.Background()); err == nil {
			t.Fatal("Seal succeeded")
		}
		time.Sleep(30 * time.Second) // of synctest's clock
		if got := l.Stats().OldestUnshipped; got < 29*time.Second {
			t.Errorf("%v, want 30 s", got)
		}
		if err := os.RemoveAll(blocker); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
	})
}

func TestAliveReportsOnlyStuckLoops(t *testing.T) {
	pass := func(d time.Duration) {
		time.Sleep(d) // of synctest's clock
		synctest.Wait()
	}
	wantAlive := func(t *testing.T, what string, l *Log) {
		t.Helper()
		pass(time.Hour)
		if err := l.Alive(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	t.Run("idle, full and failing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var full, failing atomic.Bool
			l := openLog(t, t.TempDir(), Options{
				MinFree: 1,
			}.WithFree(func(string) (int64, error) {
				if full.Load() {
					return 0, nil
				}
				return 1 << 40, nil
			}).WithDatasync(func(vfs.File) error {
				if failing.Load() {
					return os.ErrInvalid
				}
				return nil
			}))
			wantAlive(t, "idle", l)
			mustAppend(t, l, Record{Usage: usage(0)})
			wantAlive(t, "after an append", l)
			full.Store(true)
			wantAlive(t, "full", l)
			full.Store(false)
			pass(2 * time.Second)
			failing.Store(true)
			if l.Append(context.Background(), Record{Usage: usage(1)}) == nil {
				t.Fatal("stored")
			}
			wantAlive(t, "failing", l)
			failing.Store(false)
			mustClose(t, l)
			wantAlive(t, "closed", l)
		})
	})
	t.Run("a sync that does not return", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hang := make(chan struct{})
			var hanging atomic.Bool
			l := openLog(t, t.TempDir(), Options{CommitTimeout: 90 * time.Second}.WithDatasync(func(vfs.File) error {
				if hanging.Load() {
					<-hang
				}
				return nil
			}))
			hanging.Store(true)
			go func() { _ = l.Append(context.Background(), Record{Usage: usage(0)}) }()
			pass(170 * time.Second)
			if err := l.Alive(); err != nil {
				t.Errorf("within twice the commit timeout: %v", err)
			}
			pass(20 * time.Second)
			if err := l.Alive(); err == nil {
				t.Error("a hanging sync goes unnoticed")
			}
			hanging.Store(false)
			close(hang)
			wantAlive(t, "the disk is back", l)
			mustClose(t, l)
		})
	})
}
