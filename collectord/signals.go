package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// signals are those that the daemon acts on, from the first line of main on. They are
// received by a goroutine that waits for nothing else: whatever blocks, a second signal
// ends the process, and so does a stop that takes longer than shutdown.* allows.
type signals struct {
	asked  chan os.Signal // those that ask to stop, as they come
	stop   chan os.Signal // the first of them, once there is something to stop in order
	seal   chan os.Signal
	hangup chan os.Signal

	serving atomic.Pointer[func() time.Duration] // how long a stop may take; nil: nothing is to be stopped in order
	ending  atomic.Pointer[ending]
	exit    func(status int)
}

// ending is what is to be done when the process ends at once. Both functions may block.
type ending struct {
	log  func(why string)
	lost func() bool // whether usages were accepted that nobody will find
}

const (
	// lastWordsWithin bounds what is logged when the process ends at once.
	lastWordsWithin = 250 * time.Millisecond
	// oneSignal is how long after a signal the same one is taken for its echo: a
	// terminal and a wrapper may both pass it on.
	oneSignal = 100 * time.Millisecond
)

// catchSignals keeps signals from ending the process by themselves. handle or release
// follows at once.
func catchSignals(exit func(status int)) *signals {
	s := &signals{
		asked: make(chan os.Signal, 4), stop: make(chan os.Signal, 1),
		seal: make(chan os.Signal, 1), hangup: make(chan os.Signal, 1),
		exit: exit,
	}
	signal.Notify(s.asked, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(s.seal, syscall.SIGUSR1)
	signal.Notify(s.hangup, syscall.SIGHUP)
	return s
}

// untilSignal returns a context that the first signal ends. A second one ends the process,
// whatever that waits for.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// release is for commands that signals end. One that came before ends them now.
func (s *signals) release() {
	for _, c := range []chan os.Signal{s.asked, s.seal, s.hangup} {
		signal.Stop(c) // unlike signal.Reset it waits for what is on its way to c
	}
	select {
	case came := <-s.asked:
		if number, ok := came.(syscall.Signal); ok {
			s.exit(128 + int(number))
		}
	default:
	}
}

// handle is the goroutine that ends the process when a second signal asks to stop, when
// a stop takes too long, or when there is nothing to stop in order.
func (s *signals) handle() {
	first := <-s.asked
	at := time.Now()
	limit := s.serving.Load()
	if limit == nil {
		s.leave("a signal came", 0)
		return
	}
	s.stop <- first
	over := time.After((*limit)())
	for {
		select {
		case next := <-s.asked:
			if next == first && time.Since(at) < oneSignal {
				continue
			}
			s.leave("a second signal came", exitError)
		case <-over:
			s.leave("the stop took longer than shutdown.* allows", 0)
		}
		return
	}
}

// atEnd sets what is to be done when the process ends at once.
func (s *signals) atEnd(v *daemonLogger, state string, lost func() bool, attrs ...func() []any) {
	s.ending.Store(&ending{lost: lost, log: func(why string) {
		var all []any
		for _, a := range attrs {
			all = append(all, a()...)
		}
		v.Warn("stopping at once: "+why+" ("+state+")", all...)
		v.queue.flush(lastWordsWithin)
	}})
}

// leave ends the process, with exitError also where usages are lost.
func (s *signals) leave(why string, status int) {
	lost, logged := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(logged)
		e := s.ending.Load()
		if e == nil {
			lost <- false
			return
		}
		lost <- e.lost()
		e.log(why)
	}()
	select {
	case <-logged:
	case <-time.After(lastWordsWithin):
	}
	select {
	case is := <-lost:
		if is {
			status = exitError
		}
	default: // nobody knows
		status = exitError
	}
	s.exit(status)
}
