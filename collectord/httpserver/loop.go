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

// loop is a goroutine that drives many connections of plain TCP and unix sockets, and never
// blocks on one of them. It continues a connection once its socket is ready, its commit
// has ended, a worker has finished its step, or its deadline has passed.
//
//	sockets ready -> handleEvent     -> drive: read, next, write, AppendTo
//	commits ended -> resumeCommitted -> drive
//	posted        -> resumePosted    -> drive
//
// Each of these lines is a turn. Between turns, the loop commits what was appended.
// Connections that a turn does not handle have to wait, so a turn is short: slow work goes
// to workers, and the answers of a large commit take several turns.
type loop struct {
	server    *Server
	poller    *epoll.Poller
	waiter    *wal.Waiter
	connCount atomic.Int64  // connections that it drives or has accepted to drive
	woken     chan struct{} // wakes rest
	ended     chan struct{} // closed once the loop has ended

	memoryShort atomic.Bool  // a connection waits for memory
	turnStart   atomic.Int64 // when the turn began, by connections.deadline; 0: the loop waits
	relief      relief

	mu        sync.Mutex // guards the fields below
	posted    []*conn    // connections whose loopState.posted is set
	shouldEnd bool       // the loop ends after its last connection
	hasEnded  bool       // the loop has ended

	// Only the goroutine that runs the loop uses the fields below.
	conns       []*conn       // indexed by descriptor
	resuming    []*conn       // former value of posted, being resumed
	resumed     int           // how many of resuming were resumed
	commitWaits []commitWait  // in the order of their commits
	outcomes    []wal.Outcome // outcomes being handled
	handled     int           // how many of outcomes are handled
	answered    int           // how many connections of the current outcome were answered
	spareLists  [][]*conn     // unused slices for commitWaits
	now         time.Time     // start of the turn
	mustCommit  bool          // usages were appended and not yet committed
	buffers
}

// commitWait is the connections that continue when a commit ends.
type commitWait struct {
	commit uint64
	conns  []*conn
}

const (
	// Max number of ready sockets, and of answers after commits, in a turn. Such a turn
	// takes some hundred microseconds.
	maxTurnEvents    = 64
	maxTurnResponses = 128
	// Max number of turns of each kind in a round.
	maxRoundTurns = 8

	// restTime is how long a loop rests while another goroutine writes a commit. Requests
	// that arrive in that time can't be stored sooner, and waking up for each of them took
	// a third of the time. The runtime's timers can add up to a millisecond.
	restTime = 250 * time.Microsecond
)

func newLoop(h *Server, budgetBytes int) (*loop, error) {
	p, err := epoll.New(maxTurnEvents)
	if err != nil {
		return nil, fmt.Errorf("event loop: %w", err)
	}
	l := &loop{server: h, poller: p, woken: make(chan struct{}, 1), ended: make(chan struct{})}
	l.init(h.opts.MaxHeader, budgetBytes)
	l.waiter = wal.NewWaiter(l.wake)
	l.relief.init(l.run)
	return l, nil
}

// run runs rounds of turns until the server is shut down and no connection is left, or
// another goroutine has taken the loop over.
func (l *loop) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for more, idle := true, false; ; {
		switch {
		case idle:
			l.turnStart.Store(0)
			if err := l.poller.Wait(); err != nil {
				l.fail(err)
				return
			}
		case !more && !l.mustCommit && len(l.commitWaits) > 0 && !l.hasOutcomes():
			l.turnStart.Store(0)
			l.rest(timer)
		}
		answered, _ := l.turns(maxTurnResponses, l.resumeCommitted)
		var failed error
		ready, moreReady := l.turns(maxTurnEvents, func() (n int) { n, failed = l.poller.Poll(l.handleEvent); return n })
		if failed != nil {
			l.fail(failed)
			return
		}
		resumed, morePosted := l.turns(maxTurnResponses, l.resumePosted)
		if l.isDone() {
			_ = l.poller.Close() // the poller is not used any more
			close(l.ended)
			return
		}
		// Those whose usages are stored get their answers before the loop waits for the disk.
		if !l.hasOutcomes() && !l.commit() {
			return
		}
		more, idle = moreReady || morePosted, answered+ready+resumed == 0
	}
}

// hasOutcomes reports whether connections can be answered whose commits have ended.
func (l *loop) hasOutcomes() bool { return l.handled < len(l.outcomes) || l.waiter.HasOutcomes() }

// turns repeats a turn until one does less than limit, at most maxRoundTurns times. It
// returns how much all of them did, and whether more may be left to do.
func (l *loop) turns(limit int, turn func() int) (done int, more bool) {
	for range maxRoundTurns {
		began := time.Now()
		l.now = began
		l.turnStart.Store(l.server.conns.deadline(began))
		n := turn()
		if done += n; n > 0 {
			l.server.turns.ObserveTime(time.Since(began))
		}
		if n < limit {
			return done, false
		}
	}
	return done, true
}

func (l *loop) fail(err error) {
	l.turnStart.Store(1) // so that Alive reports an error from now on
	close(l.ended)
	l.server.opts.Logger.Error("the event loop can't wait for its connections, so it serves none of them any more: restart collectord", "trouble", "event_loop", "error", err)
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

// commit commits what was appended. It reports false if another goroutine has taken the
// loop over meanwhile. The caller then has to leave the loop alone.
func (l *loop) commit() (runs bool) {
	if !l.mustCommit {
		return true
	}
	l.mustCommit = false
	l.turnStart.Store(0)
	number := l.relief.begin()
	l.server.log.Commit()
	return l.relief.end(number)
}

// handleEvent continues a connection whose socket is ready.
func (l *loop) handleEvent(e epoll.Event) {
	if e.FD >= len(l.conns) || l.conns[e.FD] == nil {
		return // the connection was closed in this turn
	}
	c := l.conns[e.FD]
	c.readable = c.readable || e.Readable
	c.hungUp = c.hungUp || e.HungUp
	switch {
	case c.waitingFor == stepRead && c.readable, c.waitingFor == stepWrite && e.Writable:
		l.drive(c)
	case c.waitingFor == stepEnd && c.readable:
		l.discard(c)
	}
}

// awaitCommit registers a connection to continue when a commit ends.
func (l *loop) awaitCommit(c *conn, commit uint64) {
	n := len(l.commitWaits)
	if n == 0 || l.commitWaits[n-1].commit != commit {
		a := commitWait{commit: commit}
		if last := len(l.spareLists) - 1; last >= 0 {
			a.conns, l.spareLists = l.spareLists[last], l.spareLists[:last]
		}
		l.commitWaits = append(l.commitWaits, a)
		n++
	}
	l.commitWaits[n-1].conns = append(l.commitWaits[n-1].conns, c)
	l.mustCommit = true
}

// resumeCommitted continues up to maxTurnResponses connections whose commits have ended, and
// returns their number.
func (l *loop) resumeCommitted() (n int) {
	if l.handled == len(l.outcomes) {
		l.outcomes, l.handled = l.waiter.Outcomes(l.outcomes), 0
	}
	for l.handled < len(l.outcomes) && n < maxTurnResponses {
		o := l.outcomes[l.handled]
		at := slices.IndexFunc(l.commitWaits, func(a commitWait) bool { return a.commit == o.Commit })
		if at < 0 { // no connection waits for it
			l.handled++
			continue
		}
		conns := l.commitWaits[at].conns
		for ; l.answered < len(conns) && n < maxTurnResponses; n++ {
			c := conns[l.answered]
			l.answered++
			l.stored(c, o.Err)
		}
		if l.answered == len(conns) {
			l.handled, l.answered = l.handled+1, 0
			l.commitWaits = slices.Delete(l.commitWaits, at, at+1)
			clear(conns)
			l.spareLists = append(l.spareLists, conns[:0])
		}
	}
	return n
}

// post makes the loop look at a connection. It is safe for concurrent use.
func (l *loop) post(c *conn, why postReason) {
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

// resumePosted looks at up to maxTurnResponses posted connections, and at connections that
// wait for memory. It returns how many posted connections it looked at.
func (l *loop) resumePosted() (n int) {
	l.mu.Lock()
	if l.resumed == len(l.resuming) {
		clear(l.resuming)
		l.resuming, l.posted, l.resumed = l.posted, l.resuming[:0], 0
	}
	l.mu.Unlock()
	for ; l.resumed < len(l.resuming) && n < maxTurnResponses; n++ {
		c := l.resuming[l.resumed]
		l.resumed++
		l.mu.Lock()
		why := c.posted
		c.posted = 0
		l.mu.Unlock()
		if !c.closed {
			l.resume(c, why)
		}
	}
	l.resumeMemoryWaiters()
	return n
}

// isDone reports whether the loop ends. From then on it accepts no connection.
func (l *loop) isDone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hasEnded = l.shouldEnd && l.connCount.Load() == 0
	return l.hasEnded
}

// addConn counts a connection that the loop is going to drive. It reports false once the
// loop has ended.
func (l *loop) addConn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hasEnded {
		l.connCount.Add(1)
	}
	return !l.hasEnded
}

// startLoops starts the loops, on the first call only. It leaves a processor to the log
// and other goroutines, if there are two or more.
func (h *Server) startLoops() error {
	h.loopsMu.Lock()
	defer h.loopsMu.Unlock()
	if h.loops.Load() != nil {
		return nil
	}
	all := make([]*loop, max(1, runtime.GOMAXPROCS(0)-1))
	for i := range all {
		var err error
		if all[i], err = newLoop(h, loopsBudgetBytes/len(all)); err != nil {
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

// leastLoadedLoop returns the loop with the fewest connections, or nil without loops.
func (h *Server) leastLoadedLoop() (leastLoaded *loop) {
	all := h.loops.Load()
	if all == nil {
		return nil
	}
	for _, l := range *all {
		if leastLoaded == nil || l.connCount.Load() < leastLoaded.connCount.Load() {
			leastLoaded = l
		}
	}
	return leastLoaded
}

// wakeMemoryWaiters wakes loops whose connections wait for memory, so that they check again.
func (h *Server) wakeMemoryWaiters() {
	if all := h.loops.Load(); all != nil {
		for _, l := range *all {
			if l.memoryShort.Load() {
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
			began := l.turnStart.Load()
			if stuckFor := time.Duration(h.conns.deadline(time.Now()) - began); began != 0 && stuckFor > stuckAfter {
				return fmt.Errorf("an event loop of the HTTP server has been stuck for %v", stuckFor.Round(time.Second))
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
	h.loopsMu.Lock()
	defer h.loopsMu.Unlock()
	all := h.loops.Load()
	if all == nil {
		return
	}
	for _, l := range *all {
		l.mu.Lock()
		l.shouldEnd = true
		l.mu.Unlock()
		l.wake()
	}
}
