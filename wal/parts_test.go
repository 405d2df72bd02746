package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/vfs"
)

// A caller panics while its records are copied into a commit that it shares with
// others.
func TestAPanicOfOneCallerDamagesNoOtherFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hanging atomic.Bool
		release := make(chan struct{})
		l := openLog(t, memoryDir(t), Options{SealAfter: time.Hour}.WithDatasync(func(f vfs.File) error {
			if hanging.Load() {
				<-release
			}
			return f.Datasync()
		}))
		hanging.Store(true)
		go func() { _ = l.Append(context.Background(), Record{Usage: usage(0)}) }()
		synctest.Wait() // later records share the next commit
		good := make(chan error, 1)
		go func() { good <- l.Append(context.Background(), Record{Usage: usage(1)}) }()
		synctest.Wait()
		go func() {
			defer func() { _ = recover() }()
			passes := 0
			_ = l.AppendSeq(context.Background(), func(yield func(*Record) bool) {
				if passes++; passes == 2 {
					panic("at the second look")
				}
				yield(&Record{Usage: usage(2)})
			})
		}()
		synctest.Wait()
		hanging.Store(false)
		close(release)
		if err := <-good; !errors.Is(err, errChanged) {
			t.Errorf("an append beside one that panics: %v", err)
		}
		mustSeal(t, l)
		if got := fmt.Sprint(usagesOf(t, l)); got != "[0]" {
			t.Errorf("usages %s", got)
		}
		checkLedger(t, l)
		mustClose(t, l)
	})
}

// The roller hangs with a full queue at the turn of an hour.
func TestALogIsWritableAgainAfterARollThatTookTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails, hangs atomic.Bool
		var shift atomic.Int64
		release := make(chan struct{})
		l := openLog(t, memoryDir(t), Options{CommitTimeout: 10 * time.Second, SealAfter: 1000 * time.Hour, ProbeMin: time.Minute, ProbeMax: time.Minute}.
			WithClock(func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }).
			WithDisk(func(op, path string) error {
				if op != "rename" || strings.HasSuffix(path, nextName) {
					return nil
				}
				if hangs.Load() {
					<-release
				}
				if fails.Load() {
					return syscall.EIO
				}
				return nil
			}))
		mustAppend(t, l, Record{Usage: usage(0)})
		synctest.Wait()
		fails.Store(true)
		_ = l.Seal(context.Background())
		synctest.Wait()
		hangs.Store(true)
		time.Sleep(61 * time.Second) // until the retry
		for range 6 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = l.Seal(ctx)
			cancel()
		}
		for range 2 {
			began := time.Now()
			_ = l.Append(context.Background(), Record{Usage: usage(1)})
			if took := time.Since(began); took > 12*time.Second {
				t.Fatalf("an append took %v", took)
			}
			shift.Add(int64(time.Hour))
		}
		fails.Store(false)
		hangs.Store(false)
		close(release)
		time.Sleep(10 * time.Minute)
		mustAppend(t, l, Record{Usage: usage(2)})
		mustClose(t, l)
	})
}

// The deletion of one segment fails while that of another is retried.
func TestADeletionThatFailsBesideARetryIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mode atomic.Int32
		slow := make(chan struct{})
		l := openLog(t, memoryDir(t), Options{SealAfter: time.Hour}.WithDisk(func(op, path string) error {
			first, second := strings.Contains(path, "1-0"), strings.Contains(path, "2-0")
			switch {
			case op != "rename":
			case mode.Load() == 1 && first, mode.Load() == 2 && second:
				return syscall.EIO
			case mode.Load() == 2 && first:
				<-slow
			}
			return nil
		}))
		for i := range 2 {
			mustAppend(t, l, Record{Usage: usage(i)})
			mustSeal(t, l)
		}
		segments, _ := l.Sealed()
		mode.Store(1)
		_ = segments[0].Remove()
		mode.Store(2)
		time.Sleep(3 * time.Second)
		_ = segments[1].Remove()
		mode.Store(0)
		close(slow)
		time.Sleep(time.Hour)
		l.shelf.lock()
		defer l.shelf.unlock()
		if n := len(l.shelf.removals); n > 0 {
			t.Errorf("%d segments are not deleted an hour later", n)
		}
	})
}

// A repeated start hangs while it deletes the remains of removals.
func TestARetriedStartAcceptsNoAppendsBeforeTheCommitterRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := memoryDir(t)
		l := openLog(t, dir, Options{SealAfter: time.Hour})
		mustAppend(t, l, Record{Usage: usage(1)})
		mustClose(t, l)
		sealed, _ := filepath.Glob(filepath.Join(dir, "wal", "*-*"))
		for _, s := range sealed {
			if err := os.Rename(s, s+goneSuffix); err != nil {
				t.Fatal(err)
			}
		}
		var fails atomic.Bool
		fails.Store(true)
		release := make(chan struct{})
		l, err := Open(dir, Options{CommitTimeout: 10 * time.Second}.WithDisk(func(op, path string) error {
			switch {
			case fails.Load():
				return syscall.EIO
			case (op == "unlink" || op == "rmdir") && strings.Contains(path, goneSuffix):
				<-release
			}
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		fails.Store(false)
		time.Sleep(5 * time.Second)
		began := time.Now()
		if err := l.Append(context.Background(), Record{Usage: usage(2)}); time.Since(began) > 12*time.Second || !errors.Is(err, ErrUnavailable) {
			t.Errorf("an append during the start took %v: %v", time.Since(began), err)
		}
		close(release)
		time.Sleep(time.Minute)
		mustAppend(t, l, Record{Usage: usage(2)})
		mustClose(t, l)
	})
}

func TestBuffersOfCommitsAreReused(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	for i := range 10 {
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	l.queue.mu.Lock()
	kept := len(l.queue.buffers.spare)
	l.queue.mu.Unlock()
	if kept == 0 {
		t.Error("no buffer was kept for reuse")
	}
}

// The bytes of a failed segment must count once. Otherwise the oldest segment would be
// evicted.
func TestAFailedCommitEvictsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		l := openLog(t, memoryDir(t), Options{SealAfter: time.Hour, SegmentSize: 4 << 20, MaxBytes: 16 << 20, WhenFull: DropOldest}.
			WithDatasync(func(f vfs.File) error {
				if fails.Load() {
					return syscall.EIO
				}
				return f.Datasync()
			}).
			WithDisk(func(op, path string) error {
				if fails.Load() && op == "mkdir" && strings.HasSuffix(path, nextName) {
					return syscall.EIO
				}
				return nil
			}))
		big := []byte(`{"x":"` + strings.Repeat("x", 60000) + `"}`)
		for l.Stats().Bytes < 7<<20 {
			mustAppend(t, l, Record{Usage: big})
		}
		time.Sleep(5 * time.Second)
		before := l.Stats().Bytes
		fails.Store(true)
		_ = l.Append(context.Background(), Record{Usage: usage(1)})
		time.Sleep(5 * time.Second)
		if after := l.Stats().Bytes; after > before+1<<20 || l.Ledger().Evicted > 0 {
			t.Errorf("%d bytes before a failed commit, %d after it, %d records evicted", before, after, l.Ledger().Evicted)
		}
		fails.Store(false)
		time.Sleep(time.Minute)
		mustClose(t, l)
	})
}
