package main

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// signals are those that the daemon acts on, from its first line on. They are
// received by a goroutine that waits for nothing else: whatever blocks, a second
// signal ends the process.
type signals struct {
	stop   chan os.Signal // the first that asks to stop, once the daemon serves
	seal   chan os.Signal
	hangup chan os.Signal

	serving   atomic.Bool            // there is something to stop in order
	lastWords atomic.Pointer[func()] // logs that the process ends at once; may block
	exit      func(status int)
}

// lastWordsWithin bounds what is logged when the process ends at once.
const lastWordsWithin = 250 * time.Millisecond

// catchSignals makes exit end the process when a second signal asks to stop, or a
// first one before there is anything to stop.
func catchSignals(exit func(status int)) *signals {
	s := &signals{
		stop: make(chan os.Signal, 1), seal: make(chan os.Signal, 1), hangup: make(chan os.Signal, 1),
		exit: exit,
	}
	received := make(chan os.Signal, 2)
	signal.Notify(received, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(s.seal, syscall.SIGUSR1)
	signal.Notify(s.hangup, syscall.SIGHUP)
	// A reader of the log that goes away is a failed write, no reason to end.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		first := <-received
		if !s.serving.Load() {
			s.leave(0)
		}
		s.stop <- first
		<-received
		s.leave(exitError)
	}()
	return s
}

// says sets what is logged when the process ends at once.
func (s *signals) says(v *daemonLogger, message string, attrs ...func() []any) {
	words := func() {
		var all []any
		for _, a := range attrs {
			all = append(all, a()...)
		}
		v.Warn(message, all...)
		v.queue.flush(lastWordsWithin)
	}
	s.lastWords.Store(&words)
}

func (s *signals) leave(status int) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		if words := s.lastWords.Load(); words != nil {
			(*words)()
		}
	}()
	select {
	case <-said:
	case <-time.After(lastWordsWithin):
	}
	s.exit(status)
}
