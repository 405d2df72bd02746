package wal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/testrun"
	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

// startErrnos are errors of the operating system's calls.
var startErrnos = []syscall.Errno{
	syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EMFILE, syscall.ENFILE,
	syscall.ELOOP, syscall.EXDEV, syscall.ESTALE, syscall.ENOTDIR, syscall.EISDIR,
}

// startTrial is a log that a crash left, on which each step of a start has work to do.
type startTrial struct {
	disk  *simdisk.Disk
	calls int // number of calls of a start without faults
}

func (s startTrial) options(d *simdisk.Disk, t *testing.T) Options {
	o := Options{Node: "node", SegmentSize: 2 << 10, MachineID: "/none", BoundsInterval: rareBounds, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	o.files = d
	o.newWriter = func(dir string, first []byte) (segment.EntryWriter, error) { return newSimulatedWriter(d, dir, first) }
	return o
}

// startTrialUsages is the number of usages in the log: 0 to 9.
const startTrialUsages = 10

func newStartTrial(t *testing.T) (s startTrial) {
	d := simdisk.New(1<<24, func(n int) int { return n / 2 })
	if err := errors.Join(d.Mkdir(simulatedDir), d.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	l, err := Open(simulatedDir, s.options(d, t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range startTrialUsages {
		mustAppend(t, l, Record{Usage: fmt.Appendf(nil, `{"n":%d}`, i)})
		if i%3 == 2 {
			mustSeal(t, l)
		}
	}
	s.disk = d.Kill() // as a kill leaves it: usage 9 is in an unsealed segment
	mustClose(t, l)
	var last atomic.Int64
	d = s.disk.Kill()
	d.SetIntercept(func(c simdisk.Call) simdisk.Fault { last.Store(int64(c.N)); return simdisk.Fault{} })
	l, err = Open(simulatedDir, s.options(d, t))
	if err != nil {
		t.Fatal(err)
	}
	s.calls = int(last.Load())
	mustClose(t, l)
	return s
}

var startStep = flag.Int("start-step", 9*testrun.OneIn(5), "one in this many calls of a start fails with each error; three times as many calls fail with an error that represents others")

// TestADiskThatFailsDuringTheStart makes each call of a start fail with each error,
// once and until the disk is repaired.
func TestADiskThatFailsDuringTheStart(t *testing.T) {
	t.Parallel()
	var s startTrial
	synctest.Test(t, func(t *testing.T) { s = newStartTrial(t) })
	for _, errno := range startErrnos {
		for _, lasts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,lasts=%t", strings.ReplaceAll(errno.Error(), " ", "_"), lasts), func(t *testing.T) {
				t.Parallel()
				step := *startStep
				if errno == syscall.EIO || errno == syscall.ENOSPC || errno == syscall.EACCES || errno == syscall.EXDEV {
					step = max(1, step/3)
				}
				for at := 1 + int(errno)%step; at <= s.calls && !t.Failed(); at += step {
					synctest.Test(t, func(t *testing.T) { s.failCall(t, at, errno, lasts) })
				}
			})
		}
	}
}

func (s startTrial) failCall(t *testing.T, at int, errno syscall.Errno, lasts bool) {
	d := s.disk.Kill()
	var mended, ofTheDirectory atomic.Bool
	var first atomic.Pointer[simdisk.Call]
	first.Store(&simdisk.Call{})
	d.SetIntercept(func(c simdisk.Call) simdisk.Fault {
		if c.N == at {
			first.Store(&c)
		}
		if c.N == at || lasts && c.N > at && !mended.Load() {
			if c.Path == simulatedDir || c.Path == "/" || strings.HasSuffix(c.Path, "/LOCK") {
				ofTheDirectory.Store(true)
			}
			return simdisk.Fault{Err: errno}
		}
		return simdisk.Fault{}
	})
	defer func() {
		if failed := first.Load(); t.Failed() {
			t.Logf("the failed call was %d (%s %s) with %v, for good: %t", failed.N, failed.Op, failed.Path, errno, lasts)
		}
	}()
	l, err := Open(simulatedDir, s.options(d, t))
	if err != nil {
		if !ofTheDirectory.Load() || !strings.Contains(err.Error(), "data directory: ") {
			t.Errorf("start: %v", err)
		}
		return
	}
	if err := l.Append(context.Background(), Record{Usage: []byte(`{"n":100}`)}); err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrCommitFailed) {
		t.Errorf("append while the disk fails: %v", err)
	}
	time.Sleep(5 * time.Minute)
	if err := l.Alive(); err != nil {
		t.Errorf("while the disk fails: %v", err)
	}
	mended.Store(true)
	time.Sleep(5 * time.Minute)
	if err := l.Append(context.Background(), Record{Usage: []byte(`{"n":101}`)}); err != nil {
		t.Errorf("append after the repair of the disk: %v", err)
	}
	s.check(t, l, lasts, "after the start")
	if err := l.Close(); err != nil {
		t.Errorf("stop: %v", err)
	}
	d.SetIntercept(nil)
	l, err = Open(simulatedDir, s.options(d, t))
	if err != nil {
		t.Fatalf("second start: %v", err)
	}
	s.check(t, l, false, "after the second start")
	if err := l.Close(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

// check reads all records. Records that the disk could not read for good may wait for
// the next start (mayLack).
func (s startTrial) check(t *testing.T, l *Log, mayLack bool, when string) {
	t.Helper()
	found := map[int]int{}
	segments, _ := l.Sealed()
	for _, segment := range segments {
		for r, err := range segment.Records() {
			if err != nil {
				t.Errorf("%s: %v", when, err)
				break
			}
			found[numberOf(r.Usage)]++
		}
	}
	for n := range startTrialUsages {
		if found[n] > 1 || found[n] == 0 && !mayLack {
			t.Errorf("%s usage %d is in the log %d times", when, n, found[n])
		}
	}
	if notes, err := l.Losses(); err != nil || len(notes) > 0 {
		t.Errorf("%s: notes %v, %v", when, notes, err)
	}
	checkLedger(t, l)
}
