package wal

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/vfs/simdisk"
)

// hangTimeout is the CommitTimeout of these tests, and hangBound the longest wait.
const (
	hangTimeout = 10 * time.Second
	hangBound   = hangTimeout + 2*watchInterval
)

// TestADiskThatHangsDuringTheStart makes each call of a start hang, until the disk
// answers or the log is closed.
func TestADiskThatHangsDuringTheStart(t *testing.T) {
	t.Parallel()
	var s startTrial
	synctest.Test(t, func(t *testing.T) { s = newStartTrial(t) })
	step := max(1, *startStep/3)
	for at := 1; at <= s.calls && !t.Failed(); at += step {
		synctest.Test(t, func(t *testing.T) { s.hangCall(t, at, at%2 == 0) })
	}
}

func (s startTrial) hangCall(t *testing.T, at int, stop bool) {
	d := s.disk.Kill()
	release, hung := make(chan struct{}), atomic.Pointer[simdisk.Call]{}
	d.SetIntercept(func(c simdisk.Call) simdisk.Fault {
		if c.N == at {
			hung.Store(&c)
			<-release
		}
		return simdisk.Fault{}
	})
	defer func() {
		if c := hung.Load(); t.Failed() && c != nil {
			t.Logf("call %d hung: %s %s", c.N, c.Op, c.Path)
		}
	}()
	var logged strings.Builder // only the start writes to it
	o := s.options(d, t)
	o.CommitTimeout, o.Logger = hangTimeout, slog.New(slog.NewTextHandler(&logged, nil))
	began := time.Now()
	l, err := Open(simulatedDir, o)
	if err != nil || time.Since(began) > hangBound {
		t.Fatalf("start: %v after %v", err, time.Since(began))
	}
	if !l.Started() {
		synctest.Wait()
		path := hung.Load().Path
		if err := l.Append(context.Background(), Record{Usage: []byte(`{"n":100}`)}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "has not answered") {
			t.Errorf("append while the disk hangs: %v", err)
		}
		// A hang of the log library is reported with the directory of its file.
		if text := logged.String(); strings.Count(text, "trouble=start") != 1 || !strings.Contains(text, path) && !strings.Contains(text, "create a segment's file in") {
			t.Errorf("logged: %s", text)
		}
		time.Sleep(time.Hour)
	}
	if !stop {
		close(release)
		time.Sleep(time.Minute)
		if err := l.Append(context.Background(), Record{Usage: []byte(`{"n":101}`)}); err != nil {
			t.Errorf("append after the disk answered: %v", err)
		}
		s.check(t, l, false, "after the start")
	}
	began = time.Now()
	err = l.Close()
	if took := time.Since(began); took > hangBound {
		t.Errorf("the stop took %v", took)
	}
	if stop {
		close(release)
		time.Sleep(time.Minute)
	} else if err != nil {
		t.Errorf("stop: %v", err)
	}
	l, err = Open(simulatedDir, s.options(d, t))
	if err != nil {
		t.Fatalf("second start: %v", err)
	}
	s.check(t, l, false, "after the second start")
	mustClose(t, l)
}
