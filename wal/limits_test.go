package wal

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

func TestNewLimitsTakeEffectOnAnOpenLog(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{MaxBytes: 64 << 20, SealAfter: time.Hour})
	mustAppend(t, l, Record{Usage: usage(1)})

	l.SetLimits(Limits{MaxBytes: 1, SealAfter: time.Hour})
	if err := l.Append(context.Background(), Record{Usage: usage(2)}); !errors.Is(err, ErrFull) {
		t.Errorf("beyond a lowered bound: %v", err)
	}
	if got := l.Stats().MaxBytes; got != 1 {
		t.Errorf("MaxBytes is %d, want 1", got)
	}
	l.SetLimits(Limits{MaxBytes: 64 << 20, SealAfter: time.Hour})
	mustAppend(t, l, Record{Usage: usage(3)})

	_, more := l.Sealed()
	l.SetLimits(Limits{MaxBytes: 64 << 20, SealAfter: time.Millisecond})
	select {
	case <-more:
	case <-time.After(testLimit):
		t.Error("a segment older than the new wal.seal_after is not sealed")
	}

	l.SetLimits(Limits{MaxBytes: 64 << 20, QueueBytes: 1})
	if n := l.Enqueue(Record{Usage: usage(4), Source: UDP}); n != 0 {
		t.Errorf("%d records queued in one byte", n)
	}
	checkLedger(t, l)
}

// Run with -race.
func TestLimitsMayChangeUnderLoad(t *testing.T) {
	l := openLog(t, memoryDir(t), Options{}) // the limits change busily while a commit waits for its disk
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				l.SetLimits(Limits{MaxBytes: 64<<20 + int64(i), SealAfter: time.Minute + time.Duration(i), WhenFull: WhenFull(i % 2)})
			}
		}
	})
	for i := range 1000 {
		mustAppend(t, l, Record{Usage: usage(i)})
		l.Enqueue(Record{Usage: usage(i), Source: UDP})
	}
	close(stop)
	wg.Wait()
	checkLedger(t, l)
}

// Each line about a trouble is followed by a line about its end.
func TestTheEndOfEveryTroubleIsLogged(t *testing.T) {
	troubles := &troubleRecorder{level: map[string]slog.Level{}}
	fails := atomic.Bool{}
	l := openLog(t, t.TempDir(), Options{
		Logger: slog.New(troubles), ProbeMin: time.Millisecond, ProbeMax: time.Millisecond,
	}.WithDatasync(func(f vfs.File) error {
		if fails.Load() {
			return syscall.EIO
		}
		return f.Datasync()
	}))
	mustAppend(t, l, Record{Usage: usage(1)})
	fails.Store(true)
	if err := l.Append(context.Background(), Record{Usage: usage(2)}); !errors.Is(err, ErrCommitFailed) {
		t.Fatal(err)
	}
	fails.Store(false)
	until(t, "the log accepts records again", func() bool { return l.Append(context.Background(), Record{Usage: usage(3)}) == nil })
	l.SetLimits(Limits{MaxBytes: 1})
	l.SetLimits(Limits{})
	for name, level := range troubles.last() {
		if level != slog.LevelInfo {
			t.Errorf("the last line about the trouble %s is not an Info line that reports its end", name)
		}
	}
	if troubles := troubles.last(); len(troubles) < 2 {
		t.Errorf("only these troubles were logged: %v", troubles)
	}
}

// TestThePreparedSegmentIsReportedBeforeItIsUsed has a slow logger. Whoever can append again
// must not find that the trouble still lasts.
func TestThePreparedSegmentIsReportedBeforeItIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		troubles := &troubleRecorder{level: map[string]slog.Level{}, delay: func(r slog.Record) {
			if r.Message == "the next segment is prepared" {
				time.Sleep(time.Second)
			}
		}}
		fails := atomic.Bool{}
		d := simdisk.New(simulatedRoom, func(int) int { return 0 })
		d.SetIntercept(func(c simdisk.Call) (f simdisk.Fault) {
			if fails.Load() && (c.Op == simdisk.Datasync || c.Op == simdisk.Mkdir) {
				f.Err = syscall.EIO
			}
			return f
		})
		o := (&life{t: t, disk: d}).options(d)
		o.Logger = slog.New(troubles)
		l := openLog(t, simulatedDir, o)
		mustAppend(t, l, Record{Usage: usage(1)})
		fails.Store(true)
		if err := l.Append(context.Background(), Record{Usage: usage(2)}); !errors.Is(err, ErrCommitFailed) {
			t.Fatal(err)
		}
		until(t, "no segment can be prepared", func() bool { return troubles.last()["prepare"] == slog.LevelError })
		fails.Store(false)
		until(t, "the log accepts records again", func() bool { return l.Full() == nil })
		if troubles.last()["prepare"] != slog.LevelInfo {
			t.Error("the log accepts records before the end of the trouble is logged")
		}
		mustClose(t, l)
	})
}

// troubleRecorder keeps the level of the last line of each trouble.
type troubleRecorder struct {
	slog.Handler
	delay func(slog.Record) // nil: none
	mu    sync.Mutex
	level map[string]slog.Level
}

func (e *troubleRecorder) Enabled(context.Context, slog.Level) bool { return true }

func (e *troubleRecorder) Handle(_ context.Context, r slog.Record) error {
	if e.delay != nil {
		e.delay(r)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "trouble" {
			e.level[a.Value.String()] = r.Level
		}
		return true
	})
	return nil
}

func (e *troubleRecorder) last() map[string]slog.Level {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.level)
}
