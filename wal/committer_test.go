package wal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/vfs"
)

func TestConcurrentAppendsShareCommitsAndStayWhole(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{SegmentSize: 16 << 10})
	const appenders, each = 50, 40
	var wg sync.WaitGroup
	for a := range appenders {
		wg.Go(func() {
			for i := range each {
				if err := l.Append(context.Background(), Record{Usage: usage(a*each + i)}); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					checkLedger(t, l)
				}
			}
		})
	}
	wg.Wait()
	mustSeal(t, l)
	seen := map[string]int{}
	for _, r := range readAll(t, l) {
		seen[string(r.Usage)]++
	}
	for i := range appenders * each {
		if seen[string(usage(i))] != 1 {
			t.Fatalf("usage %d is in the log %d times, want once", i, seen[string(usage(i))])
		}
	}
	if n := l.Stats().CommitRecords.Count(); n >= appenders*each {
		t.Errorf("%d commits for %d appends: none was shared", n, appenders*each)
	}
	if segments, _ := l.Sealed(); len(segments) < 2 {
		t.Errorf("%d segments: none was sealed by size", len(segments))
	}
}

func TestRepeatedFailuresLeaveFewDirectories(t *testing.T) {
	var failing atomic.Bool
	l := openLog(t, t.TempDir(), Options{
		ProbeMin: time.Microsecond,
	}.WithDatasync(func(f vfs.File) error {
		if failing.Load() {
			return syscall.EIO
		}
		return f.Datasync()
	}))
	for i := range 3 {
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	failing.Store(true)
	const failures = 16 // the delay before a retry doubles after each
	for failed := 0; failed < failures; {
		switch err := l.Append(context.Background(), Record{Usage: usage(9)}); {
		case errors.Is(err, ErrCommitFailed):
			failed++
		case errors.Is(err, ErrUnavailable): // until the next segment is prepared
			runtime.Gosched()
		default:
			t.Fatalf("append on a failing disk: %v", err)
		}
	}
	names, err := os.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) > 6 { // LOG, lost, the sealed and the active segment, next, and a tombstone
		t.Errorf("%d failures left %v", failures, names)
	}
	failing.Store(false)
	until(t, "the log accepts records again", func() bool {
		return l.Append(context.Background(), Record{Usage: usage(3)}) == nil
	})
	if aside := l.PutAside(); len(aside) > 0 {
		t.Errorf("put aside: %v", aside)
	}
	mustSeal(t, l)
	got := readAll(t, l)
	if len(got) != 4 || !bytes.Equal(got[3].Usage, usage(3)) {
		t.Errorf("records %v", got)
	}
	checkLedger(t, l)
	until(t, "the tombstones are deleted", func() bool {
		gone, _ := filepath.Glob(filepath.Join(l.dir, "*"+goneSuffix))
		return len(gone) == 0
	})
}

func TestIntervalSyncAcknowledgesBeforeTheDisk(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{Sync: SyncInterval, SyncInterval: time.Millisecond})
	for i := range 100 {
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	mustClose(t, l)
	l = openLog(t, dir, Options{})
	if n := len(readAll(t, l)); n != 100 {
		t.Errorf("%d records, want 100", n)
	}
}

func TestAFailedWriteEndsTheSegmentAndTheLogRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closeFile atomic.Bool
		l := openLog(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
			if closeFile.Swap(false) {
				return errors.Join(f.Close(), f.Datasync())
			}
			return f.Datasync()
		}))
		mustAppend(t, l, Record{Usage: usage(1)})
		closeFile.Store(true)
		err := l.Append(context.Background(), Record{Usage: usage(2)})
		if !errors.Is(err, ErrCommitFailed) {
			t.Fatalf("append to a closed file: %v", err)
		}
		if err := l.Append(context.Background(), Record{Usage: usage(3)}); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("append after a failure: %v", err)
		}
		if err := l.Full(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("full: %v", err)
		}
		until(t, "the log recovers", func() bool { return l.Full() == nil })
		mustAppend(t, l, Record{Usage: usage(4)})
		mustSeal(t, l)
		got := readAll(t, l)
		if len(got) != 2 || !bytes.Equal(got[0].Usage, usage(1)) || !bytes.Equal(got[1].Usage, usage(4)) {
			t.Errorf("records %v", got)
		}
		g := checkLedger(t, l)
		if g.BySource[HTTP].Dropped[ReasonCommitFailed] != 1 || g.BySource[HTTP].Rejected[ReasonLogFull] != 1 {
			t.Errorf("ledger %+v", g.BySource[HTTP])
		}
		names, _ := filepath.Glob(filepath.Join(l.dir, "*"))
		if len(names) > 6 { // LOG, lost, next, two sealed, active
			t.Errorf("a failure left %v", names)
		}
	})
}

func TestAHangingSyncIsAbandonedAndTheLogRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var hanging atomic.Bool
		l := openLog(t, t.TempDir(), Options{CommitTimeout: 50 * time.Millisecond}.WithDatasync(func(f vfs.File) error {
			if hanging.Load() {
				<-hang
				return nil
			}
			return f.Datasync()
		}))
		mustAppend(t, l, Record{Usage: usage(0)})
		hanging.Store(true)
		lost := make(chan error, 2)
		go func() { lost <- l.Append(context.Background(), Record{Usage: []byte(`{"lost":true}`)}) }()
		until(t, "a commit hangs", func() bool {
			return l.committer.diskWait.isBusy()
		})
		go func() { lost <- l.Append(context.Background(), Record{Usage: []byte(`{"lost":true}`)}) }()
		for range 2 {
			if err := <-lost; !errors.Is(err, ErrCommitFailed) && !errors.Is(err, ErrUnavailable) {
				t.Fatalf("append on a hanging disk: %v", err)
			}
		}
		if err := l.Append(context.Background(), Record{Usage: usage(9)}); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("append while the disk hangs: %v", err)
		}
		checkLedger(t, l)
		hanging.Store(false)
		close(hang)
		until(t, "the log recovers", func() bool { return l.Full() == nil })
		mustAppend(t, l, Record{Usage: usage(1)})
		mustSeal(t, l)
		got := readAll(t, l)
		if len(got) != 2 || !bytes.Equal(got[0].Usage, usage(0)) || !bytes.Equal(got[1].Usage, usage(1)) {
			t.Errorf("records %v", got)
		}
		if g := checkLedger(t, l); g.BySource[HTTP].Appended != 2 || g.BySource[HTTP].Waiting != 0 {
			t.Errorf("ledger %+v", g)
		}
	})
}
