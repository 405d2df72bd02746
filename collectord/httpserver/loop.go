package httpserver

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"collectord/collectord/epoll"
	"collectord/collectord/histogram"
	"collectord/wal"
)

// loop is a goroutine that drives many connections of plain TCP and unix sockets. It
// blocks on none of them. It continues a connection once its socket is ready, its commit
// has ended, a worker has finished its step, or its deadline has passed.
//
//	sockets ready -> event    -> drive: read, next, write, AppendTo
//	commits ended -> outcomes -> drive
//	posted        -> look     -> drive
//
// Each of these lines is a turn. A round of turns signals the log to commit what it has
// appended. No other connection proceeds during a turn, so a turn is short: slow work
// goes to workers, and the answers of a large commit take several turns.
type loop struct {
	server *Server
	poller *epoll.Poller
	waiter *wal.Waiter
	load   atomic.Int64  // connections that it drives or has accepted to drive
	woken  chan struct{} // wakes rest
	ended  chan struct{} // closed once the loop has ended

	starving atomic.Bool  // a connection waits for memory
	began    atomic.Int64 // when the turn began, by connections.deadline; 0: the loop waits

	mu     sync.Mutex // guards the fields below
	posted []*conn    // connections whose driven.posted is set
	over   bool       // the loop ends after its last connection
	gone   bool       // the loop has ended

	// Only the loop's goroutine uses the fields below.
	conns    []*conn       // indexed by descriptor
	taken    []*conn       // former value of posted, being looked at
	looked   int           // how many of taken were looked at
	awaited  []awaited     // in the order of their commits
	outcomes []wal.Outcome // outcomes being handled
	handled  int           // how many of outcomes are handled
	answered int           // how many connections of the current outcome were answered
	spare    [][]*conn     // unused slices for awaited
	now      time.Time     // start of the turn
	appended bool          // usages were appended and not yet committed
	buffers
}

// awaited is the connections that continue when a commit ends.
type awaited struct {
	commit uint64
	conns  []*conn
}

const (
	// Max number of ready sockets, and of answers after commits, in a turn. Such a turn
	// takes some hundred microseconds.
	turnEvents  = 64
	turnAnswers = 128
	// Max number of turns of each kind in a round.
	roundTurns = 8

	// restTime is how long a loop rests during a commit. What it would read in that time
	// can't be stored sooner, and waking up for each request took a third of its time.
	// The runtime's timers can add up to a millisecond.
	restTime = 250 * time.Microsecond
)

func newLoop(h *Server, budget int) (*loop, error) {
	p, err := epoll.New(turnEvents)
	if err != nil {
		return nil, fmt.Errorf("event loop: %w", err)
	}
	l := &loop{server: h, poller: p, woken: make(chan struct{}, 1), ended: make(chan struct{})}
	l.init(h.opts.MaxHeader, budget)
	l.waiter = wal.NewWaiter(l.wake)
	return l, nil
}

// run runs rounds of turns until the server is shut down and no connection is left.
func (l *loop) run() {
	defer close(l.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for more, idle := true, false; ; {
		switch {
		case idle:
			l.began.Store(0)
			if err := l.poller.Wait(); err != nil {
				l.fail(err)
				return
			}
		case !more && len(l.awaited) > 0:
			l.began.Store(0)
			l.rest(timer)
		}
		var failed error
		ready, moreReady := l.turns(turnEvents, func() (n int) { n, failed = l.poller.Poll(l.event); return n })
		if failed != nil {
			l.fail(failed)
			return
		}
		l.commit() // the answers of the previous commit are sent during this one
		answered, moreOutcomes := l.turns(turnAnswers, l.takeOutcomes)
		looked, morePosted := l.turns(turnAnswers, l.takePosted)
		l.commit()
		if l.isOver() {
			_ = l.poller.Close() // the poller is not used any more
			return
		}
		more, idle = moreReady || moreOutcomes || morePosted, ready+answered+looked == 0
	}
}

// turns repeats a turn while it does its max of work, up to roundTurns times. It returns
// how much was done, and whether more may be left.
func (l *loop) turns(most int, turn func() int) (done int, more bool) {
	for range roundTurns {
		began := time.Now()
		l.now = began
		l.began.Store(l.server.open.deadline(began))
		n := turn()
		if done += n; n > 0 {
			l.server.turns.ObserveTime(time.Since(began))
		}
		if n < most {
			return done, false
		}
	}
	return done, true
}

func (l *loop) fail(err error) {
	l.began.Store(1) // so that Alive reports an error from now on
	l.server.opts.Logger.Error("the event loop can't wait for its connections, and serves them no more: restart collectord", "trouble", "event_loop", "error", err)
}

// rest waits until the loop is woken, at most restTime.
func (l *loop) rest(timer *time.Timer) {
	timer.Reset(restTime)
	select {
	case <-l.woken:
	case <-timer.C:
	}
}

// wake wakes the loop from rest or Wait. It is safe for concurrent use.
func (l *loop) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
	l.poller.Wake()
}

// commit signals the log to commit what was appended.
func (l *loop) commit() {
	if l.appended {
		l.appended = false
		l.server.log.Commit()
	}
}

// event continues a connection whose socket is ready.
func (l *loop) event(e epoll.Event) {
	if e.FD >= len(l.conns) || l.conns[e.FD] == nil {
		return // the connection was closed in this turn
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

// await registers a connection to continue when a commit ends.
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
	l.appended = true
}

// takeOutcomes continues up to turnAnswers connections whose commits have ended, and
// returns their number.
func (l *loop) takeOutcomes() (n int) {
	if l.handled == len(l.outcomes) {
		l.outcomes, l.handled = l.waiter.Outcomes(l.outcomes), 0
	}
	for l.handled < len(l.outcomes) && n < turnAnswers {
		o := l.outcomes[l.handled]
		at := slices.IndexFunc(l.awaited, func(a awaited) bool { return a.commit == o.Commit })
		if at < 0 { // no connection waits for it
			l.handled++
			continue
		}
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

// post makes the loop look at a connection. It is safe for concurrent use.
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

// takePosted looks at up to turnAnswers posted connections, and at those that wait for
// memory. It returns the number of posted ones.
func (l *loop) takePosted() (n int) {
	l.mu.Lock()
	if l.looked == len(l.taken) {
		clear(l.taken)
		l.taken, l.posted, l.looked = l.posted, l.taken[:0], 0
	}
	l.mu.Unlock()
	for ; l.looked < len(l.taken) && n < turnAnswers; n++ {
		c := l.taken[l.looked]
		l.looked++
		l.mu.Lock()
		why := c.posted
		c.posted = 0
		l.mu.Unlock()
		if !c.closed {
			l.look(c, why)
		}
	}
	l.feed()
	return n
}

// isOver reports whether the loop ends. From then on it accepts no connection.
func (l *loop) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = l.over && l.load.Load() == 0
	return l.gone
}

// takeIn counts a connection that the loop is going to drive. It reports false once the
// loop has ended.
func (l *loop) takeIn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.gone {
		l.load.Add(1)
	}
	return !l.gone
}

// startLoops starts the loops, on the first call only. It leaves a processor to the log
// and other goroutines, if there are two or more.
func (h *Server) startLoops() error {
	h.loopsMade.Lock()
	defer h.loopsMade.Unlock()
	if h.loops.Load() != nil {
		return nil
	}
	all := make([]*loop, max(1, runtime.GOMAXPROCS(0)-1))
	for i := range all {
		var err error
		if all[i], err = newLoop(h, headBytes/len(all)); err != nil {
			for _, l := range all[:i] {
				_ = l.poller.Close() // the error of newLoop matters more
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

// leastLoop returns the loop with the fewest connections, or nil without loops.
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

// wakeHungry wakes loops whose connections wait for memory, so that they check again.
func (h *Server) wakeHungry() {
	if all := h.loops.Load(); all != nil {
		for _, l := range *all {
			if l.starving.Load() {
				l.wake()
			}
		}
	}
}

// stuckAfter is the age of a turn from which on a loop counts as stuck.
const stuckAfter = 30 * time.Second

// Alive returns an error if an event loop is stuck or has failed.
func (h *Server) Alive() error {
	if all := h.loops.Load(); all != nil {
		for _, l := range *all {
			began := l.began.Load()
			if late := time.Duration(h.open.deadline(time.Now()) - began); began != 0 && late > stuckAfter {
				return fmt.Errorf("an event loop of the HTTP server has been stuck for %v", late.Round(time.Second))
			}
		}
	}
	return nil
}

// LoopTurns returns how long the turns of the event loops took. During a turn no other
// connection of the loop proceeds.
func (h *Server) LoopTurns() histogram.Distribution { return h.turns.Seconds() }

// endLoops makes the loops end after their last connections.
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
