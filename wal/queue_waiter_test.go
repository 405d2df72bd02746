package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"collectord/wal/vfs"
)

// TestAWaiterGetsOneOutcomePerCommit appends from one goroutine, as an event loop does.
func TestAWaiterGetsOneOutcomePerCommit(t *testing.T) {
	var fails atomic.Bool
	l := openLog(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
		if fails.Load() {
			return syscall.EIO
		}
		return f.Datasync()
	}))
	woken := make(chan struct{}, 1000)
	w := NewWaiter(func() { woken <- struct{}{} })
	const n = 500
	waiting := map[uint64][]int{} // by commit
	last := uint64(0)
	for i := range n {
		commit, err := l.AppendTo(w, slices.Values([]*Record{{Usage: usage(i)}, {Usage: usage(i)}}))
		if err != nil {
			t.Fatal(err)
		}
		if commit < last {
			t.Fatalf("commit %d comes after %d", commit, last)
		}
		last = commit
		waiting[commit] = append(waiting[commit], i)
		if i%100 == 99 {
			l.Commit()
		}
	}
	commits := len(waiting)
	for wakes := 0; len(waiting) > 0; wakes++ {
		<-woken
		for _, o := range w.Outcomes(nil) {
			if o.Err != nil || waiting[o.Commit] == nil {
				t.Fatalf("%+v", o)
			}
			delete(waiting, o.Commit)
		}
		if wakes > commits {
			t.Fatalf("woken %d times for %d commits", wakes, commits)
		}
	}
	if g := checkLedger(t, l); g.BySource[HTTP].Appended != 2*n {
		t.Errorf("ledger %+v", g)
	}

	fails.Store(true)
	if _, err := l.AppendTo(w, slices.Values([]*Record{{Usage: usage(n)}})); err != nil {
		t.Fatal(err)
	}
	l.Commit()
	<-woken
	if all := w.Outcomes(nil); len(all) != 1 || !errors.Is(all[0].Err, ErrCommitFailed) {
		t.Errorf("outcomes %+v", all)
	}
	if _, err := l.AppendTo(w, slices.Values([]*Record{{Usage: usage(n)}})); !errors.Is(err, ErrUnavailable) {
		t.Errorf("append to a log that is not writable: %v", err)
	}
	if _, err := l.AppendTo(w, slices.Values([]*Record{})); err != nil || len(w.Outcomes(nil)) > 0 {
		t.Errorf("append of nothing: %v", err)
	}
	if len(woken) > 0 {
		t.Error("woken without an outcome")
	}
}

// Whoever is told that a commit failed, and then waits until the log is writable, must not
// look before the log knows.
func TestALogRefusesAppendsBeforeItReportsAFailedCommit(t *testing.T) {
	var fails atomic.Bool
	l := openLog(t, t.TempDir(), Options{}.WithDatasync(func(f vfs.File) error {
		if fails.Load() {
			return syscall.EIO
		}
		return f.Datasync()
	}))
	refusal := make(chan error, 1)
	w := NewWaiter(func() { refusal <- l.Full() })
	fails.Store(true)
	if _, err := l.AppendTo(w, slices.Values([]*Record{{Usage: usage(1)}})); err != nil {
		t.Fatal(err)
	}
	l.Commit()
	if err := <-refusal; !errors.Is(err, ErrUnavailable) {
		t.Errorf("when the failure is reported, appends are refused with: %v", err)
	}
}

// Records that differ on the second pass fail, together with the other records of their
// frame.
func TestRecordsThatChangeWhileTheyAreAppendedAreNotStored(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	passes := 0
	for name, second := range map[string]func(*Record){
		"shorter":  func(r *Record) { r.Usage = r.Usage[:1] },
		"longer":   func(r *Record) { r.Usage = append(r.Usage, 'x') },
		"identity": func(r *Record) { r.ID = ID{1} },
	} {
		passes = 0
		err := l.AppendSeq(context.Background(), func(yield func(*Record) bool) {
			r := Record{Usage: usage(1)}
			if passes++; passes == 2 {
				second(&r)
			}
			yield(&r)
		})
		if !errors.Is(err, errChanged) || !errors.Is(err, ErrCommitFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustAppend(t, l, Record{Usage: usage(0)})
	mustSeal(t, l)
	if got := fmt.Sprint(usagesOf(t, l)); got != "[0]" {
		t.Errorf("usages %s", got)
	}
	if g := checkLedger(t, l); g.BySource[HTTP].Dropped[ReasonCommitFailed] != 3 {
		t.Errorf("ledger %+v", g)
	}
}

func TestOversizedRecordsAreCountedAndTheOthersStored(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	long := Record{Client: string(make([]byte, MaxClient+1)), Usage: usage(0)}
	if err := l.Append(context.Background(), Record{Usage: usage(1)}, long); err == nil {
		t.Error("stored a client name that is too long")
	}
	if n := l.Enqueue(Record{Usage: usage(0), Source: UDP}, Record{Client: long.Client, Source: UDP}, Record{Usage: usage(1), Source: UDP}); n != 2 {
		t.Errorf("%d of 2 were enqueued", n)
	}
	mustSeal(t, l)
	if got := fmt.Sprint(usagesOf(t, l)); got != "[0 1]" {
		t.Errorf("usages %s", got)
	}
	g := checkLedger(t, l)
	if g.BySource[HTTP].Rejected[ReasonUnstorable] != 2 || g.BySource[UDP].Rejected[ReasonUnstorable] != 1 {
		t.Errorf("ledger %+v", g)
	}
}
