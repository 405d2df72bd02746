package main

import (
	"bufio"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// newTestSignals returns the signal handling of a process with a stop timeout of a minute,
// and a channel for its exit status.
func newTestSignals(lost bool) (s *signals, ended chan int) {
	ended = make(chan int, 1)
	s = &signals{stopRequests: make(chan os.Signal, 4), stop: make(chan os.Signal, 1), exit: func(status int) { ended <- status }}
	limit := func() time.Duration { return time.Minute }
	s.stopLimit.Store(&limit)
	s.last.Store(&lastActions{log: func(string) {}, lost: func() bool { return lost }})
	return s, ended
}

func TestTwoSignals(t *testing.T) {
	for name, c := range map[string]struct {
		second syscall.Signal
		after  time.Duration
		ends   bool
	}{
		"the same signal at once":       {syscall.SIGTERM, 0, false},
		"the same signal within 100 ms": {syscall.SIGTERM, 99 * time.Millisecond, false},
		"the same signal after 100 ms":  {syscall.SIGTERM, 100 * time.Millisecond, true},
		"another signal at once":        {syscall.SIGINT, 0, true},
		"another signal within 100 ms":  {syscall.SIGINT, 99 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, ended := newTestSignals(false)
				go s.handle()
				s.stopRequests <- syscall.SIGTERM
				synctest.Wait()
				if len(s.stop) != 1 {
					t.Fatal("the first signal does not stop the daemon")
				}
				time.Sleep(c.after)
				s.stopRequests <- c.second
				synctest.Wait()
				if ends := len(ended) == 1; ends != c.ends {
					t.Errorf("the process ends: %t, want %t", ends, c.ends)
				}
				s.stopRequests <- syscall.SIGINT // so that the synctest bubble ends
				synctest.Wait()
				if status := <-ended; status != exitError {
					t.Errorf("exit status %d", status)
				}
			})
		})
	}
}

func TestAStopThatHangsEndsOnceItsTimeIsOver(t *testing.T) {
	for lost, want := range map[bool]int{false: 0, true: exitError} {
		synctest.Test(t, func(t *testing.T) {
			s, ended := newTestSignals(lost)
			go s.handle()
			s.stopRequests <- syscall.SIGTERM
			began := time.Now()
			if status := <-ended; status != want || time.Since(began) != time.Minute {
				t.Errorf("lost %t: the process ended with %d after %v", lost, status, time.Since(began))
			}
		})
	}
}

// Logging at the end may block, and so may the check for lost usages.
func TestExitWithoutOutputWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ended := newTestSignals(false)
		free := make(chan struct{})
		defer close(free)
		s.last.Store(&lastActions{log: func(string) {}, lost: func() bool { <-free; return false }})
		s.stopLimit.Store(nil)
		go s.handle()
		s.stopRequests <- syscall.SIGTERM
		began := time.Now()
		if status := <-ended; status != exitError || time.Since(began) != lastLogTimeout {
			t.Errorf("the process ended with %d after %v", status, time.Since(began))
		}
	})
}

// A signal that arrived before the command started ends the command.
func TestASignalBeforeACommandBeginsEndsIt(t *testing.T) {
	ended := make(chan int, 1)
	s := catchSignals(func(status int) { ended <- status })
	s.stopRequests <- syscall.SIGTERM
	s.release()
	if status := <-ended; status != 128+int(syscall.SIGTERM) {
		t.Errorf("exit status %d", status)
	}
	if signal.Ignored(syscall.SIGTERM) {
		t.Error("SIGTERM is ignored")
	}
}

// A signal ends the daemon's command even before the daemon has started.
func TestASignalEndsTheRunCommandInEveryPhase(t *testing.T) {
	s, ended := newTestSignals(false)
	s.stopLimit.Store(nil)
	s.stopRequests <- syscall.SIGTERM
	if status := execute([]string{"run", "--no-such-flag"}, s); status != exitError {
		t.Errorf("exit status %d", status)
	}
	select {
	case <-ended:
	case <-time.After(testTimeout):
		t.Error("the signal is not received")
	}
}

// TestASecondSignalEndsShip does not read ship's output to the end.
func TestASecondSignalEndsShip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeArchive(t, dir)
	_, settings := fakeS3(t, dir)
	config, _, _ := configure(t, dir, "shipper:\n  "+strings.Replace(settings, "keep: 200ms", "keep: 1h", 1)+"\n")
	_, out := smallPipe(t)
	fillPipe(t, out)
	r, w := smallPipe(t)
	cmd := command(t, "ship", "--config", config, "--archive", dir+"/data/archive")
	cmd.Stdout, cmd.Stderr = out, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill(); <-ended }()
	_ = r.SetReadDeadline(time.Now().Add(testTimeout))
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "waiting for shipper.keep") { // ship waits for shipper.keep
			break
		}
	}
	until(t, "ship ends", func() bool {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}
