package wal

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/vfs"
)

// TestNoAppendOutlivesTheCommitTimeout makes one call after the other hang.
func TestNoAppendOutlivesTheCommitTimeout(t *testing.T) {
	const limit = 10 * time.Second
	for name, c := range map[string]struct {
		op   string // operations that hang, as errorfs names them, or datasync or statfs
		path string // suffix of the path
		sync Sync
		roll bool // a segment is due to be sealed
	}{
		"the sync of a commit":           {op: "datasync"},
		"the sync of an interval":        {op: "datasync", sync: SyncInterval},
		"a sync, and statfs":             {op: "datasync statfs"},
		"a rename":                       {op: "rename", path: nextName, roll: true},
		"a mkdir of the roller":          {op: "mkdir", path: nextName, roll: true},
		"a directory sync of the roller": {op: "fsync", roll: true},
		"a directory sync of the roller, statfs, and the sync of a commit": {op: "fsync datasync statfs", roll: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var hanging atomic.Bool
				release := make(chan struct{})
				hang := func(op, path string) {
					if hanging.Load() && strings.Contains(c.op, op) && strings.HasSuffix(path, c.path) {
						<-release
					}
				}
				o := Options{CommitTimeout: limit, Sync: c.sync, SealAfter: time.Hour, SegmentSize: 4 << 10}.
					WithDatasync(func(f vfs.File) error { hang("datasync", c.path); return f.Datasync() }).
					WithFree(func(string) (int64, error) { hang("statfs", c.path); return 1 << 40, nil }).
					WithDisk(func(op, path string) error { hang(op, path); return nil })
				l := openLog(t, memoryDir(t), o)
				mustAppend(t, l, Record{Usage: usage(0)})
				synctest.Wait()
				hanging.Store(true)
				if c.roll { // first the roller hangs, then the committer that waits for it
					go func() { _ = l.Seal(context.Background()) }()
					synctest.Wait()
				}
				from := time.Now()
				for failed := false; !failed; {
					began := time.Now()
					err := l.Append(context.Background(), Record{Usage: []byte(`{"x":"` + strings.Repeat("x", 1000) + `"}`)})
					if took := time.Since(began); took > limit+2*watchInterval {
						t.Fatalf("an append took %v", took)
					}
					failed = err != nil
					if failed && !errors.Is(err, ErrCommitFailed) && !errors.Is(err, ErrUnavailable) {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					if time.Since(from) > time.Minute {
						t.Fatal("appends succeed for a minute although calls hang")
					}
				}
				if err := l.Append(context.Background(), Record{Usage: usage(9)}); !errors.Is(err, ErrUnavailable) {
					t.Errorf("append while the disk hangs: %v", err)
				}
				time.Sleep(5 * time.Minute)
				hanging.Store(false)
				close(release)
				for tries := 0; l.Full() != nil && tries < 120; tries++ {
					time.Sleep(time.Second)
				}
				mustAppend(t, l, Record{Usage: usage(1)})
				checkLedger(t, l)
				mustClose(t, l)
			})
		})
	}
}

// TestSealDoesNotWaitForAnEmptyQueue seals while appenders run without a pause.
func TestSealDoesNotWaitForAnEmptyQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fsync = 10 * time.Millisecond
		l := openLog(t, memoryDir(t), Options{SealAfter: time.Hour}.WithDatasync(func(vfs.File) error { time.Sleep(fsync); return nil }))
		var all sync.WaitGroup
		ctx, stop := context.WithCancel(context.Background())
		for range 8 {
			all.Go(func() {
				for ctx.Err() == nil {
					mustAppend(t, l, Record{Usage: usage(1)})
				}
			})
		}
		all.Go(func() {
			for ctx.Err() == nil {
				l.Enqueue(Record{Usage: usage(1), Source: UDP})
				time.Sleep(time.Millisecond)
			}
		})
		for range 20 {
			time.Sleep(7 * fsync / 2)
			before := l.Ledger()
			began := time.Now()
			mustSeal(t, l)
			if took := time.Since(began); took > 3*fsync {
				t.Errorf("sealing took %v, with an fsync of %v", took, fsync)
			}
			sealed := uint64(0)
			segments, _ := l.Sealed()
			for _, s := range segments {
				sealed = max(sealed, s.LastSeq())
			}
			if accepted := before.BySource[HTTP].Accepted + before.BySource[UDP].Accepted; sealed < accepted {
				t.Errorf("sealed up to seq %d, and %d records had been accepted", sealed, accepted)
			}
		}
		stop()
		all.Wait()
		mustClose(t, l)
	})
}

// A log that is not writable answers requests to seal with an error, even while records
// wait.
func TestSealDoesNotWaitForADiskThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		var l *Log
		l = openLog(t, memoryDir(t), Options{SealAfter: time.Hour, ProbeMin: time.Hour, ProbeMax: time.Hour}.WithDatasync(func(f vfs.File) error {
			if fails.Swap(false) {
				l.Enqueue(Record{Usage: usage(1), Source: UDP})
				return errors.New("failed")
			}
			return f.Datasync()
		}))
		mustAppend(t, l, Record{Usage: usage(0)})
		fails.Store(true)
		_ = l.Append(context.Background(), Record{Usage: usage(2)})
		began := time.Now()
		if err := l.Seal(context.Background()); !errors.Is(err, ErrUnavailable) || time.Since(began) > time.Minute {
			t.Errorf("Seal took %v, and returned %v", time.Since(began), err)
		}
		mustClose(t, l)
	})
}

func TestAnEvictedOrRemovedSegmentCanNotBeHeld(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	for i := range 2 {
		mustAppend(t, l, Record{Usage: usage(i)})
		mustSeal(t, l)
	}
	segments, _ := l.Sealed()
	if !segments[0].Hold() || segments[0].Hold() {
		t.Error("a segment must be held exactly once")
	}
	if err := segments[0].evict(); err != nil {
		t.Fatal(err)
	}
	segments[0].Release()
	if segments[0].Hold() {
		t.Error("an evicted segment is held")
	}
	if err := segments[1].Remove(); err != nil {
		t.Fatal(err)
	}
	if segments[1].Hold() {
		t.Error("a removed segment is held")
	}
}

// reentrantHandler is a log handler that calls the log.
type reentrantHandler struct {
	slog.Handler
	log atomic.Pointer[Log]
}

func (r *reentrantHandler) Enabled(context.Context, slog.Level) bool { return true }
func (r *reentrantHandler) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *reentrantHandler) Handle(context.Context, slog.Record) error {
	if l := r.log.Load(); l != nil {
		callMethods(l)
	}
	return nil
}

// callMethods calls methods that together lock every mutex a caller can lock.
func callMethods(l *Log) {
	l.Stats()
	l.Ledger()
	l.Full()
	l.Sealed()
	l.Unread()
	l.Enqueue(Record{Usage: usage(1), Source: UDP})
}

// TestNeitherALoggerNorACallerIsCalledWithAMutexHeld hangs if one is.
func TestNeitherALoggerNorACallerIsCalledWithAMutexHeld(t *testing.T) {
	logger := &reentrantHandler{}
	var fails atomic.Bool
	l := openLog(t, t.TempDir(), Options{
		Logger: slog.New(logger), SegmentSize: 16 << 10, MaxBytes: 256 << 10, WhenFull: DropOldest, ProbeMin: time.Millisecond, ProbeMax: time.Millisecond,
	}.WithDatasync(func(f vfs.File) error {
		if fails.Swap(false) {
			return errors.New("failed")
		}
		return f.Datasync()
	}))
	logger.log.Store(l)
	for i := range 300 { // until the log is full and evicts
		if i%50 == 49 {
			fails.Store(true)
		}
		_ = l.AppendSeq(context.Background(), func(yield func(*Record) bool) {
			callMethods(l)
			yield(&Record{Usage: []byte(`{"x":"` + strings.Repeat("x", 4000) + `"}`)})
			callMethods(l)
		})
		if i%20 == 19 {
			_ = l.Seal(context.Background())
		}
	}
	l.SetLimits(Limits{MaxBytes: 64 << 10})
	until(t, "the log is full", func() bool { return l.Full() != nil })
	l.SetLimits(Limits{})
	until(t, "the log has room", func() bool { return l.Full() == nil })
	logger.log.Store(nil)
}
