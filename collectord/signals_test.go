package main

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// handled are signals of a process that may take a minute to stop, and the status with
// which it ended, once it has.
func handled(lost bool) (s *signals, ended chan int) {
	ended = make(chan int, 1)
	s = &signals{asked: make(chan os.Signal, 4), stop: make(chan os.Signal, 1), exit: func(status int) { ended <- status }}
	limit := func() time.Duration { return time.Minute }
	s.serving.Store(&limit)
	s.ending.Store(&ending{log: func(string) {}, lost: func() bool { return lost }})
	return s, ended
}

func TestTwoSignals(t *testing.T) {
	for name, c := range map[string]struct {
		second syscall.Signal
		after  time.Duration
		ends   bool
	}{
		"the same at once":          {syscall.SIGTERM, 0, false},
		"the same within 100 ms":    {syscall.SIGTERM, 99 * time.Millisecond, false},
		"the same after 100 ms":     {syscall.SIGTERM, 100 * time.Millisecond, true},
		"another one at once":       {syscall.SIGINT, 0, true},
		"another one within 100 ms": {syscall.SIGINT, 99 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, ended := handled(false)
				go s.handle()
				s.asked <- syscall.SIGTERM
				synctest.Wait()
				if len(s.stop) != 1 {
					t.Fatal("the first signal does not stop the daemon")
				}
				time.Sleep(c.after)
				s.asked <- c.second
				synctest.Wait()
				if ends := len(ended) == 1; ends != c.ends {
					t.Errorf("the process ends: %t, want %t", ends, c.ends)
				}
				s.asked <- syscall.SIGINT // the bubble has to end
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
			s, ended := handled(lost)
			go s.handle()
			s.asked <- syscall.SIGTERM
			began := time.Now()
			if status := <-ended; status != want || time.Since(began) != time.Minute {
				t.Errorf("lost %t: it ended with %d after %v", lost, status, time.Since(began))
			}
		})
	}
}

// What is to be logged at the end may block, and so may what tells what is lost.
func TestAProcessThatEndsAtOnceWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ended := handled(false)
		free := make(chan struct{})
		defer close(free)
		s.ending.Store(&ending{log: func(string) {}, lost: func() bool { <-free; return false }})
		s.serving.Store(nil)
		go s.handle()
		s.asked <- syscall.SIGTERM
		began := time.Now()
		if status := <-ended; status != exitError || time.Since(began) != lastWordsWithin {
			t.Errorf("it ended with %d after %v", status, time.Since(began))
		}
	})
}

// A command that signals end is ended by one that came before that was known.
func TestASignalBeforeACommandBeginsEndsIt(t *testing.T) {
	ended := make(chan int, 1)
	s := catchSignals(func(status int) { ended <- status })
	s.asked <- syscall.SIGTERM
	s.release()
	if status := <-ended; status != 128+int(syscall.SIGTERM) {
		t.Errorf("exit status %d", status)
	}
	if signal.Ignored(syscall.SIGTERM) {
		t.Error("SIGTERM is ignored")
	}
}
