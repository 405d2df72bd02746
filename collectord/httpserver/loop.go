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
	ended  chan struct{} // closed once the loop has ended

	starving atomic.Bool  // connections wait for memory
	began    atomic.Int64 // when the turn began, as deadline makes it; 0: the loop waits

	mu     sync.Mutex // guards what follows
	posted []*conn    // whose driven.posted is set
	over   bool       // the loop ends with its last connection
	gone   bool       // it has ended

	// What follows belongs to the loop's goroutine.
	conns    []*conn       // by descriptor
	taken    []*conn       // former posted
	looked   int           // of these
	awaited  []awaited     // in the order in which their commits began
	outcomes []wal.Outcome // that are not all handled yet
	handled  int           // of these
	answered int           // connections of the one that is being handled
	spare    [][]*conn     // for awaited
	now      time.Time     // when the turn began
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
	l := &loop{server: h, poller: p, woken: make(chan struct{}, 1), ended: make(chan struct{})}
	l.init(h.opts.MaxHeader, budget)
	l.waiter = wal.NewWaiter(l.wake)
	return l, nil
}

// run turns until the server is shut down and no connection is left.
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
		l.commit() // while it is under way, the answers of the one before are sent
		answered, moreOutcomes := l.turns(turnAnswers, l.takeOutcomes)
		looked, morePosted := l.turns(turnAnswers, l.takePosted)
		l.commit()
		if l.isOver() {
			_ = l.poller.Close() // nothing is polled any more
			return
		}
		more, idle = moreReady || moreOutcomes || morePosted, ready+answered+looked == 0
	}
}

// turns repeats a turn as long as it does as much as it may, but not for too long. It
// returns how much was done, and whether there is more.
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
	l.began.Store(1) // which Alive reports from now on
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
		if at < 0 { // nobody is left to be answered
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

// takePosted looks at connections that were posted, and at those that wait for memory. It
// returns how many were posted; the rest waits for the next turn.
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

// isOver reports whether the loop is to end: then it takes in no connection any more.
func (l *loop) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = l.over && l.load.Load() == 0
	return l.gone
}

// takeIn counts a connection that the loop is to drive. It is false once the loop has
// ended.
func (l *loop) takeIn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.gone {
		l.load.Add(1)
	}
	return !l.gone
}

// startLoops starts the loops. They leave the log and others a processor, if there are
// two.
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

// stuckAfter is how long no turn of a loop takes.
const stuckAfter = 30 * time.Second

// Alive returns an error if an event loop does not turn.
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

// LoopTurns returns how long the turns of the event loops took: nothing else of their
// connections happens meanwhile.
func (h *Server) LoopTurns() histogram.Distribution { return h.turns.Seconds() }

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
