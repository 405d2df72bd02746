package httpserver

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"collectord/collectord/epoll"
	"collectord/wal"
)

// loop is a goroutine that drives many connections of plain TCP and unix sockets. It waits for none of
// them: it goes on with a connection once its socket is ready, its commit has ended, a
// worker is done with it, or its deadline has passed.
//
//	sockets ready -> event    -> drive: read, next, write, AppendTo
//	commits ended -> outcomes -> drive
//	posted        -> look     -> drive
//
// That is a turn, which ends with one signal to the log for all that it has appended.
// Nothing of another connection runs meanwhile, so that a turn does little: what takes long
// is given to workers, and many answers take several turns.
type loop struct {
	server *Server
	poller *epoll.Poller
	waiter *wal.Waiter
	load   atomic.Int64  // connections that it drives, or will
	woken  chan struct{} // ends rest

	starving atomic.Bool // connections wait for memory

	mu     sync.Mutex // guards what follows
	posted []*conn    // whose driven.posted is set
	over   bool       // the loop ends with its last connection

	// What follows belongs to the loop's goroutine.
	conns    []*conn       // by descriptor
	taken    []*conn       // former posted
	awaited  []awaited     // in the order in which their commits began
	outcomes []wal.Outcome // that are not all handled yet
	handled  int           // of these
	answered int           // connections of the one that is being handled
	spare    [][]*conn     // for awaited
	appended bool          // there is something to be committed
	buffers
}

// awaited are connections that go on when a commit ends.
type awaited struct {
	commit uint64
	conns  []*conn
}

const (
	// A turn handles so many sockets that are ready, and about as many answers of
	// commits: some hundred microseconds' worth.
	turnEvents  = 64
	turnAnswers = 128
	// A round has so many turns of each kind.
	roundTurns = 8

	// restTime is how long a loop rests while a commit is under way. What is read in that
	// time can't be stored sooner, and to be woken for each request took a third of its
	// time. It is as exact as the runtime's timers: up to a millisecond.
	restTime = 250 * time.Microsecond
)

func newLoop(h *Server, budget int) (*loop, error) {
	p, err := epoll.New(turnEvents)
	if err != nil {
		return nil, fmt.Errorf("event loop: %w", err)
	}
	l := &loop{server: h, poller: p, woken: make(chan struct{}, 1)}
	l.init(h.opts.MaxHeader, budget)
	l.waiter = wal.NewWaiter(l.wake)
	return l, nil
}

// run turns until the server is shut down and no connection is left.
func (l *loop) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	idle := false // nothing was to be done in the last round
	for {
		switch {
		case idle:
			if _, err := l.poller.Wait(l.event); err != nil {
				l.fail(err)
				return
			}
		case len(l.awaited) > 0:
			l.rest(timer)
		}
		n, err := l.turns(turnEvents, func() (int, error) { return l.poller.Poll(l.event) })
		if err != nil {
			l.fail(err)
			return
		}
		l.commit() // while it is under way, the answers of the one before are sent
		answered, _ := l.turns(turnAnswers, func() (int, error) { return l.takeOutcomes(), nil })
		looked, over := l.takePosted()
		l.feed()
		l.commit()
		if over && l.load.Load() == 0 {
			_ = l.poller.Close() // nothing is polled any more
			return
		}
		idle = n+answered+looked == 0
	}
}

// turns repeats a turn, as long as it does as much as it may, and there are others to be
// done.
func (l *loop) turns(most int, turn func() (int, error)) (done int, err error) {
	for range roundTurns {
		began := time.Now()
		n, err := turn()
		if done += n; n > 0 {
			l.server.turns.ObserveTime(time.Since(began))
		}
		if n < most || err != nil {
			return done, err
		}
	}
	return done, nil
}

func (l *loop) fail(err error) {
	l.server.opts.Logger.Error("the event loop can't wait for its connections, and serves them no more: restart collectord", "trouble", "event_loop", "error", err)
}

// rest waits for the commit under way, but not for long.
func (l *loop) rest(timer *time.Timer) {
	timer.Reset(restTime)
	select {
	case <-l.woken:
	case <-timer.C:
	}
}

// wake ends rest or Wait. Any goroutine may call it.
func (l *loop) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
	l.poller.Wake()
}

// commit has the log begin a commit with what was appended.
func (l *loop) commit() {
	if l.appended {
		l.appended = false
		l.server.log.Commit()
	}
}

// event goes on with a connection whose socket is ready for what it waits for.
func (l *loop) event(e epoll.Event) {
	if e.FD >= len(l.conns) || l.conns[e.FD] == nil {
		return // it was closed in this turn
	}
	c := l.conns[e.FD]
	c.readable = c.readable || e.Readable
	c.hungUp = c.hungUp || e.HungUp
	switch {
	case c.waits == stepRead && c.readable, c.waits == stepWrite && e.Writable:
		l.drive(c)
	case c.waits == stepEnd && c.readable:
		l.discard(c)
	}
}

// await has a connection go on when a commit ends.
func (l *loop) await(c *conn, commit uint64) {
	n := len(l.awaited)
	if n == 0 || l.awaited[n-1].commit != commit {
		a := awaited{commit: commit}
		if last := len(l.spare) - 1; last >= 0 {
			a.conns, l.spare = l.spare[last], l.spare[:last]
		}
		l.awaited = append(l.awaited, a)
		n++
	}
	l.awaited[n-1].conns = append(l.awaited[n-1].conns, c)
	c.waits = stepAppend
	l.appended = true
}

// takeOutcomes goes on with connections whose commits have ended, and returns with how
// many. The rest waits for the next turn.
func (l *loop) takeOutcomes() (n int) {
	if l.handled == len(l.outcomes) {
		l.outcomes, l.handled = l.waiter.Outcomes(l.outcomes), 0
	}
	for l.handled < len(l.outcomes) && n < turnAnswers {
		o := l.outcomes[l.handled]
		at := slices.IndexFunc(l.awaited, func(a awaited) bool { return a.commit == o.Commit })
		conns := l.awaited[at].conns
		for ; l.answered < len(conns) && n < turnAnswers; n++ {
			c := conns[l.answered]
			l.answered++
			l.stored(c, o.Err)
		}
		if l.answered == len(conns) {
			l.handled, l.answered = l.handled+1, 0
			l.awaited = slices.Delete(l.awaited, at, at+1)
			clear(conns)
			l.spare = append(l.spare, conns[:0])
		}
	}
	return n
}

// post has the loop look at a connection. Any goroutine may call it.
func (l *loop) post(c *conn, why reason) {
	l.mu.Lock()
	first := len(l.posted) == 0
	if c.posted == 0 {
		l.posted = append(l.posted, c)
	}
	c.posted |= why
	l.mu.Unlock()
	if first {
		l.wake()
	}
}

// takePosted looks at what was posted, and returns how many that were, and whether the
// loop is to end.
func (l *loop) takePosted() (n int, over bool) {
	l.mu.Lock()
	l.taken, l.posted = l.posted, l.taken[:0]
	over = l.over
	l.mu.Unlock()
	for i, c := range l.taken {
		l.taken[i] = nil
		l.mu.Lock()
		why := c.posted
		c.posted = 0
		l.mu.Unlock()
		if !c.closed {
			l.look(c, why)
		}
	}
	return len(l.taken), over
}

// startLoops starts the loops. They leave the log and others a processor, if there are
// two.
func (h *Server) startLoops() error {
	h.loopsMade.Lock()
	defer h.loopsMade.Unlock()
	if h.loops.Load() != nil {
		return nil
	}
	all := make([]*loop, max(1, runtime.NumCPU()-1))
	for i := range all {
		var err error
		if all[i], err = newLoop(h, headBytes/len(all)); err != nil {
			for _, l := range all[:i] {
				_ = l.poller.Close() // the error is another
			}
			return err
		}
	}
	for _, l := range all {
		go l.run()
	}
	h.loops.Store(&all)
	return nil
}

// leastLoop returns the loop that drives the fewest connections; nil if there is none.
func (h *Server) leastLoop() (least *loop) {
	all := h.loops.Load()
	if all == nil {
		return nil
	}
	for _, l := range *all {
		if least == nil || l.load.Load() < least.load.Load() {
			least = l
		}
	}
	return least
}

// wakeHungry has loops look for memory again that had none.
func (h *Server) wakeHungry() {
	if all := h.loops.Load(); all != nil {
		for _, l := range *all {
			if l.starving.Load() {
				l.wake()
			}
		}
	}
}

// endLoops has the loops end with their last connections.
func (h *Server) endLoops() {
	h.loopsMade.Lock()
	defer h.loopsMade.Unlock()
	all := h.loops.Load()
	if all == nil {
		return
	}
	for _, l := range *all {
		l.mu.Lock()
		l.over = true
		l.mu.Unlock()
		l.wake()
	}
}
