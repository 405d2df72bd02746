package wal

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// allocationsOf counts the allocations on stacks that contain a function, since the start
// of the process and while runtime.MemProfileRate is 1.
func allocationsOf(function string) (n int64) {
	runtime.GC() // the profile lags by two collections
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 1000)
	for {
		used, complete := runtime.MemProfile(records, true)
		if complete {
			records = records[:used]
			break
		}
		records = make([]runtime.MemProfileRecord, 2*used)
	}
	for _, r := range records {
		for frames := runtime.CallersFrames(r.Stack()); ; {
			frame, more := frames.Next()
			if strings.HasSuffix(frame.Function, function) {
				n += r.AllocObjects
				break
			}
			if !more || frame.Function == "sync.(*Pool).Get" { // with the race detector, a pool drops every fourth value
				break
			}
		}
	}
	return n
}

// TestTheCommitPathAllocatesNothing counts allocations by the functions that make them: a
// commit with blocked appenders costs two when the first of them begins it, and nothing else
// is allocated.
func TestTheCommitPathAllocatesNothing(t *testing.T) {
	const appends, perCommit = 300, 2
	const others = appends / 2 // of the runtime, and of slices that grow
	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 1
	defer func() { runtime.MemProfileRate = rate }()
	l := openLog(t, t.TempDir(), Options{})
	records := slices.Values([]*Record{{Usage: usage(1)}})
	woken := make(chan struct{}, 1)
	w := NewWaiter(func() { woken <- struct{}{} })
	var outcomes []Outcome
	appended := func() uint64 {
		l.queue.mu.Lock()
		defer l.queue.mu.Unlock()
		return l.queue.ledger.BySource[UDP].Appended
	}
	for name, c := range map[string]struct {
		append func() error
		most   int64 // allocations of an append
	}{
		"blocking": {func() error { return l.AppendSeq(context.Background(), records) }, perCommit},
		"by a waiter": {func() error {
			_, err := l.AppendTo(w, records)
			l.Commit()
			<-woken
			outcomes = w.Outcomes(outcomes)
			return err
		}, 0},
		"UDP": {func() error {
			udp := [1]Record{{Usage: usage(1), Source: UDP}}
			was := appended()
			l.Enqueue(udp[:]...)
			for is := appended(); is == was; is = appended() {
				<-time.After(50 * time.Microsecond)
			}
			return nil
		}, 0},
	} {
		for range 3 { // until buffers are there
			if err := c.append(); err != nil {
				t.Fatal(err)
			}
		}
		ofCommits := func() int64 { return allocationsOf(".(*committer).run") + allocationsOf(".(*committer).commitHere") }
		commits, submit := ofCommits(), allocationsOf(".(*Log).submit")
		for range appends {
			if err := c.append(); err != nil {
				t.Fatal(err)
			}
		}
		if n := ofCommits() - commits; n > others {
			t.Errorf("%s: the committer allocated %d times in %d commits", name, n, appends)
		}
		if n := allocationsOf(".(*Log).submit") - submit; n > c.most*appends+others {
			t.Errorf("%s: %d appends allocated %d times", name, appends, n)
		}
	}
	mustClose(t, l)
}
