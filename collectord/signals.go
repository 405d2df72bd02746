package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// signals receives the signals of the daemon from the start of main. Its goroutine
// never blocks on other work. So a second signal always ends the process, and so does a
// stop that exceeds the limits of shutdown.*.
type signals struct {
	stopRequests chan os.Signal // all signals that request a stop
	stop         chan os.Signal // the first of them, once an orderly stop is possible
	seal         chan os.Signal // SIGUSR1
	hangup       chan os.Signal // SIGHUP

	stopLimit atomic.Pointer[func() time.Duration] // the maximum duration of a stop; nil: no orderly stop is possible yet
	last      atomic.Pointer[lastActions]
	exit      func(status int)
}

// lastActions defines what to do before an immediate end of the process. Both functions may
// block.
type lastActions struct {
	log  func(why string)
	lost func() bool // whether accepted usages are lost
}

const (
	// lastLogTimeout limits the time for logging before an immediate end.
	lastLogTimeout = 250 * time.Millisecond
	// sameSignalWithin is the time in which a repeated signal counts as the same one, because
	// a terminal and a wrapper may both forward it.
	sameSignalWithin = 100 * time.Millisecond
)

// catchSignals disables the default effect of signals. Call handle or release next.
func catchSignals(exit func(status int)) *signals {
	s := &signals{
		stopRequests: make(chan os.Signal, 4), stop: make(chan os.Signal, 1),
		seal: make(chan os.Signal, 1), hangup: make(chan os.Signal, 1),
		exit: exit,
	}
	signal.Notify(s.stopRequests, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(s.seal, syscall.SIGUSR1)
	signal.Notify(s.hangup, syscall.SIGHUP)
	return s
}

// untilSignal returns a context that the first signal cancels. A second signal ends the
// process.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// release restores the default effect of signals, for all commands but run. A signal
// received before ends the process now.
func (s *signals) release() {
	for _, c := range []chan os.Signal{s.stopRequests, s.seal, s.hangup} {
		signal.Stop(c) // unlike signal.Reset, Stop waits for signals still being delivered to c
	}
	select {
	case received := <-s.stopRequests:
		if number, ok := received.(syscall.Signal); ok {
			s.exit(128 + int(number))
		}
	default:
	}
}

// handle runs in a goroutine. It ends the process on a second signal, when a stop takes
// too long, or when no orderly stop is possible yet.
func (s *signals) handle() {
	first := <-s.stopRequests
	at := time.Now()
	limit := s.stopLimit.Load()
	if limit == nil {
		s.exitNow("a signal came", 0)
		return
	}
	s.stop <- first
	overdue := time.After((*limit)())
	for {
		select {
		case next := <-s.stopRequests:
			if next == first && time.Since(at) < sameSignalWithin {
				continue
			}
			s.exitNow("a second signal came", exitError)
		case <-overdue:
			s.exitNow("the stop took longer than shutdown.* allows", 0)
		}
		return
	}
}

// serve calls seal for each SIGUSR1 and reload for each SIGHUP, until ctx ends.
func (s *signals) serve(ctx context.Context, seal, reload func()) {
	for {
		var act func()
		select {
		case <-s.seal:
			act = seal
		case <-s.hangup:
			act = reload
		case <-ctx.Done():
		}
		if ctx.Err() != nil { // also if a signal came at the same time
			return
		}
		act()
	}
}

// setLastActions sets what to do before an immediate end of the process.
func (s *signals) setLastActions(daemonLog *daemonLogger, state string, lost func() bool, attrs ...func() []any) {
	s.last.Store(&lastActions{lost: lost, log: func(why string) {
		var all []any
		for _, a := range attrs {
			all = append(all, a()...)
		}
		daemonLog.Warn("stopping at once: "+why+" ("+state+")", all...)
		daemonLog.queue.flush(lastLogTimeout)
	}})
}

// exitNow ends the process at once. The exit status is exitError if usages are lost, or
// may be.
func (s *signals) exitNow(why string, status int) {
	lost, logged := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(logged)
		e := s.last.Load()
		if e == nil {
			lost <- false
			return
		}
		lost <- e.lost()
		e.log(why)
	}()
	select {
	case <-logged:
	case <-time.After(lastLogTimeout):
	}
	select {
	case is := <-lost:
		if is {
			status = exitError
		}
	default: // unknown, because lost blocks
		status = exitError
	}
	s.exit(status)
}
