package wal

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/vfs"
)

// waiterClient appends as an event loop does, from one goroutine.
type waiterClient struct {
	t    *testing.T
	log  *Log
	w    *Waiter
	next int // number of the next usage
}

func newWaiterClient(t *testing.T, l *Log) *waiterClient {
	return &waiterClient{t: t, log: l, w: NewWaiter(func() {})}
}

// append appends a usage and returns its commit.
func (a *waiterClient) append() (commit uint64) {
	a.t.Helper()
	commit, err := a.log.AppendTo(a.w, slices.Values([]*Record{{Usage: usage(a.next)}}))
	if err != nil {
		a.t.Fatal(err)
	}
	a.next++
	return commit
}

// mustBeStored expects exactly the outcome of a commit.
func (a *waiterClient) mustBeStored(commit uint64) {
	a.t.Helper()
	if all := a.w.Outcomes(nil); len(all) != 1 || all[0] != (Outcome{Commit: commit}) {
		a.t.Errorf("outcomes %+v, want one of commit %d", all, commit)
	}
}

// calledBy reports whether the calling goroutine is in a function.
func calledBy(function string) bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, function) {
			return true
		}
		if !more {
			return false
		}
	}
}

// An idle log writes a commit before Commit returns. Its own goroutine only rolls.
func TestCommitWritesOnTheCallersGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var here, elsewhere atomic.Int64
		l := openLog(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
			switch {
			case calledBy(".commitHere"):
				here.Add(1)
			case calledBy(".(*committer).round"):
				elsewhere.Add(1)
			}
			return f.Datasync()
		}))
		a := newWaiterClient(t, l)
		const n = 1500
		for range n {
			synctest.Wait()
			commit := a.append()
			l.Commit()
			if here.Load()+elsewhere.Load() == int64(a.next) {
				a.mustBeStored(commit)
				continue
			}
			synctest.Wait() // a full segment is left to the committer
			a.mustBeStored(commit)
		}
		l.Commit() // of nothing
		mustSeal(t, l)
		if got := usagesOf(t, l); len(got) != n || !slices.IsSorted(got) {
			t.Errorf("%d usages, want %d in order", len(got), n)
		}
		segments, _ := l.Sealed()
		if len(segments) < 2 || elsewhere.Load() > int64(2*len(segments)) || here.Load()+elsewhere.Load() != n {
			t.Errorf("%d segments; %d commits were written here, %d by the committer", len(segments), here.Load(), elsewhere.Load())
		}
		if g := checkLedger(t, l); g.BySource[HTTP].Appended != n {
			t.Errorf("ledger %+v", g)
		}
	})
}

// While the disk does not answer, only the caller that writes is blocked.
func TestCommitDoesNotWaitForAnotherCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		answers := make(chan struct{})
		l := openLog(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
			if hangs.Load() {
				<-answers
			}
			return f.Datasync()
		}))
		synctest.Wait()
		hangs.Store(true)
		a, b := newWaiterClient(t, l), newWaiterClient(t, l)
		first := a.append()
		done := make(chan struct{})
		go func() { defer close(done); l.Commit() }()
		synctest.Wait()
		b.next = a.next
		second := b.append()
		l.Commit()
		synctest.Wait()
		select {
		case <-done:
			t.Error("Commit did not wait for the disk")
		default:
		}
		if more := len(a.w.Outcomes(nil)) + len(b.w.Outcomes(nil)); more > 0 || first == second {
			t.Errorf("%d outcomes while the disk does not answer; commits %d and %d", more, first, second)
		}
		hangs.Store(false)
		close(answers)
		synctest.Wait()
		<-done
		a.mustBeStored(first)
		b.mustBeStored(second)
	})
}

// A commit that hangs in Commit is abandoned like any other.
func TestCommitOnADiskThatHangsIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		answers := make(chan struct{})
		l := openLog(t, t.TempDir(), Options{CommitTimeout: time.Second}.WithDatasync(func(f vfs.File) error {
			if hangs.Load() {
				<-answers
			}
			return f.Datasync()
		}))
		synctest.Wait()
		a := newWaiterClient(t, l)
		stored := a.append()
		l.Commit()
		a.mustBeStored(stored)
		hangs.Store(true)
		lost := a.append()
		go l.Commit()
		time.Sleep(3 * time.Second)
		if all := a.w.Outcomes(nil); len(all) != 1 || all[0].Commit != lost || !errors.Is(all[0].Err, ErrCommitFailed) {
			t.Errorf("outcomes %+v", all)
		}
		if _, err := l.AppendTo(a.w, slices.Values([]*Record{{Usage: usage(9)}})); !errors.Is(err, ErrUnavailable) {
			t.Errorf("an append while the disk hangs: %v", err)
		}
		hangs.Store(false)
		close(answers)
		until(t, "the log recovers", func() bool { return l.Full() == nil })
		a.next = 1 // the seq of the lost one is used again
		synctest.Wait()
		commit := a.append()
		l.Commit()
		synctest.Wait()
		a.mustBeStored(commit)
		mustSeal(t, l)
		if got := usagesOf(t, l); !slices.Equal(got, []int{0, 1}) {
			t.Errorf("usages %v", got)
		}
	})
}

// After a failed sync the log recovers without another call.
func TestCommitReportsAFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		l := openLog(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
			if fails.Load() {
				return syscall.EIO
			}
			return f.Datasync()
		}))
		synctest.Wait()
		fails.Store(true)
		a := newWaiterClient(t, l)
		lost := a.append()
		l.Commit()
		if all := a.w.Outcomes(nil); len(all) != 1 || all[0].Commit != lost || !errors.Is(all[0].Err, syscall.EIO) {
			t.Errorf("outcomes %+v", all)
		}
		fails.Store(false)
		failed := time.Now()
		until(t, "the log recovers", func() bool { return l.Full() == nil })
		if took := time.Since(failed); took > 3*time.Second { // the disk is tried after one second
			t.Errorf("the log recovered after %v", took)
		}
		synctest.Wait()
		a.next = 0
		commit := a.append()
		l.Commit()
		synctest.Wait()
		a.mustBeStored(commit)
		mustSeal(t, l)
		if got := usagesOf(t, l); !slices.Equal(got, []int{0}) {
			t.Errorf("usages %v", got)
		}
	})
}

// The committer learns when a segment that only Commit writes is due, by its size or by its
// age. The age at which it is sealed depends on its size.
func TestASegmentThatOnlyCommitWritesIsSealedInTime(t *testing.T) {
	for name, c := range map[string]struct {
		o       Options
		records int
		bytes   int
		wait    time.Duration
	}{
		"full":  {Options{SegmentSize: 32 << 10, SealAfter: time.Hour}, 9, 4000, 0},
		"old":   {Options{SealAfter: 2 * time.Second}, 1, 10, 3 * time.Second},
		"large": {Options{SegmentSize: 64 << 20, SealAfter: 2 * time.Second, SealSmallAfter: 5 * time.Minute}, 9, 1<<20 - 200, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLog(t, t.TempDir(), c.o)
				time.Sleep(time.Second) // the committer waits now
				w := NewWaiter(func() {})
				for range c.records {
					if _, err := l.AppendTo(w, slices.Values([]*Record{{Usage: append(bytes.Repeat([]byte(" "), c.bytes), "{}"...)}})); err != nil {
						t.Fatal(err)
					}
					l.Commit()
					synctest.Wait()
				}
				time.Sleep(c.wait)
				synctest.Wait()
				if segments, _ := l.Sealed(); len(segments) != 1 {
					t.Errorf("%d sealed segments after %v, want 1", len(segments), c.wait)
				}
			})
		})
	}
}

// Commit may be called before the log has started. Run with -race.
func TestCommitBeforeTheStart(t *testing.T) {
	var works atomic.Bool
	l := openLog(t, t.TempDir(), Options{ProbeMin: time.Millisecond, ProbeMax: time.Millisecond}.WithDisk(func(op, _ string) error {
		if !works.Load() && op == "mkdir" {
			return syscall.EIO
		}
		return nil
	}))
	for n := 0; l.Full() != nil; n++ {
		l.Commit()
		if n == 1000 {
			works.Store(true)
		}
	}
	a := newWaiterClient(t, l)
	commit := a.append()
	l.Commit()
	until(t, "the usage is stored", a.w.HasOutcomes)
	a.mustBeStored(commit)
}

// With SyncInterval the committer's goroutine writes, since it also has to sync in time.
func TestCommitWithSyncInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		l := openLog(t, t.TempDir(), Options{Sync: SyncInterval, SyncInterval: time.Second}.WithDatasync(func(f vfs.File) error {
			syncs.Add(1)
			return f.Datasync()
		}))
		a := newWaiterClient(t, l)
		for n := range 2 { // after its first record, a segment has no other reason to wake the committer
			synctest.Wait()
			before := syncs.Load()
			commit := a.append()
			l.Commit()
			synctest.Wait()
			a.mustBeStored(commit)
			if time.Sleep(2 * time.Second); syncs.Load() == before {
				t.Errorf("commit %d was not synced within two seconds", n)
			}
		}
	})
}

// Commit may be called while the log is closed, and afterwards.
func TestCommitOfAClosedLog(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	a := newWaiterClient(t, l)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := l.AppendTo(a.w, slices.Values([]*Record{{Usage: usage(0)}}))
			if l.Commit(); err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
				return
			}
		}
	}()
	until(t, "usages are stored", func() bool { return len(a.w.Outcomes(nil)) > 0 })
	mustClose(t, l)
	l.Commit()
	close(stop)
	<-stopped
	if g := checkLedger(t, l); g.BySource[HTTP].Waiting != 0 || g.BySource[HTTP].Appended != g.BySource[HTTP].Accepted {
		t.Errorf("ledger %+v", g)
	}
}
