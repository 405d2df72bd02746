package httpserver

import (
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// hangingLog is a log on a disk that hangs: the first Commit does not return until the test
// allows it. Later calls return at once, as they do while another commit is being written.
type hangingLog struct {
	*commitLog
	calls    atomic.Int64
	entered  chan struct{}
	returns  chan struct{}
	returned chan struct{}
}

func newHangingLog() *hangingLog {
	return &hangingLog{commitLog: newCommitLog(), entered: make(chan struct{}), returns: make(chan struct{}), returned: make(chan struct{})}
}

func (l *hangingLog) Commit() {
	if l.calls.Add(1) == 1 {
		close(l.entered)
		<-l.returns
		defer close(l.returned)
	}
}

// While a call of Commit hangs, its loop serves its other connections, and answers those of the
// commit when that is abandoned. The call may return much later.
func TestALoopServesOthersWhileCommitHangs(t *testing.T) {
	log := newHangingLog()
	h, addr := startServer(t, log, Options{})
	first, second, other := dialRaw(t, addr), dialRaw(t, addr), dialRaw(t, addr)
	first.send(post(`{"n":1}`))
	<-log.entered
	for range 100 {
		other.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if status, body := other.readResponse(); status != 200 {
			t.Fatalf("while a commit hangs: %d %s", status, body)
		}
	}
	hung := log.startNextCommit()
	second.send(post(`{"n":2}`))
	log.waitStored(t, 2)
	log.finish(hung, wal.ErrCommitFailed)
	if status, body := first.readResponse(); status != 503 {
		t.Errorf("the request of the abandoned commit: %d %s, want 503", status, body)
	}
	close(log.returns)
	<-log.returned
	log.finish(log.startNextCommit(), nil)
	if status, body := second.readResponse(); status != 201 {
		t.Errorf("a request of the next commit: %d %s, want 201", status, body)
	}
	for n := range 100 {
		first.send(post(`{"n":3}`))
		log.waitStored(t, 3+n)
		log.finish(log.startNextCommit(), nil)
		if status, body := first.readResponse(); status != 201 {
			t.Fatalf("a request after the commit: %d %s, want 201", status, body)
		}
	}
	if err := h.Alive(); err != nil {
		t.Error(err)
	}
}

// The goroutine whose commit has taken too long leaves the loop to the one that took it
// over.
func TestOnlyOneGoroutineRunsALoop(t *testing.T) {
	log := newHangingLog()
	l := newManualLoop(t, log, Options{})
	l.relief.takeOver = l.run
	c, p := l.acceptPeer(t, post(`{}`))
	l.post(c, reasonNew)
	first := make(chan struct{})
	l.server.loops.Store(&[]*loop{l})
	go func() { defer close(first); l.run() }()
	<-log.entered
	waitFor(t, func() bool { return l.relief.committing.Load() == 0 }) // it is taken over
	close(log.returns)
	<-first
	log.finish(log.startNextCommit(), nil)
	waitFor(t, func() bool { return strings.Contains(p.received(), " 201 ") })
	_ = unix.Close(p.fd)
	l.server.endLoops()
	<-l.ended
}

// outcomeLog is a log whose first commit ends while the loop appends to the second.
type outcomeLog struct {
	*commitLog
	t       *testing.T
	appends int
	waiter  *wal.Waiter
}

func (l *outcomeLog) AppendTo(w *wal.Waiter, recs iter.Seq[*wal.Record]) (uint64, error) {
	if l.appends++; l.appends == 2 {
		l.waiter = w
		l.finish(l.startNextCommit(), nil)
	}
	return l.commitLog.AppendTo(w, recs)
}

func (l *outcomeLog) Commit() {
	if l.appends == 1 {
		return // the first commit ends later
	}
	if l.waiter.HasOutcomes() {
		l.t.Error("the loop waits for the disk before it answers")
	}
	l.finish(l.startNextCommit(), nil)
}

// Those whose usages are stored do not wait for the next commit.
func TestStoredUsagesAreAnsweredBeforeTheNextCommit(t *testing.T) {
	log := &outcomeLog{commitLog: newCommitLog(), t: t}
	_, addr := startServer(t, log, Options{})
	first, second := dialRaw(t, addr), dialRaw(t, addr)
	first.send(post(`{"n":1}`))
	log.waitStored(t, 1)
	second.send(post(`{"n":2}`))
	for _, v := range []*rawClient{first, second} {
		if status, body := v.readResponse(); status != 201 {
			t.Errorf("%d %s", status, body)
		}
	}
}

// A loop is taken over once, when one commit has taken long, however many short ones came
// before it.
func TestReliefTakesALoopOverAfterALongCommitOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r relief
		taken := 0
		r.init(func() { taken++ })
		for n := range 1000 {
			number := r.begin()
			time.Sleep(commitPatience * time.Duration(n%10) / 10)
			if !r.end(number) || taken > 0 {
				t.Fatalf("commit %d was short, but the loop was taken over", n)
			}
			time.Sleep(commitPatience * time.Duration(n%7))
		}
		for n := range 3 {
			number := r.begin()
			time.Sleep(2 * commitPatience)
			synctest.Wait()
			if taken != n+1 {
				t.Errorf("after %v the loop was taken over %d times, want %d", 2*commitPatience, taken, n+1)
			}
			time.Sleep(time.Hour)
			if r.end(number) || taken != n+1 {
				t.Errorf("the first goroutine still runs the loop; it was taken over %d times", taken)
			}
		}
		if time.Sleep(2 * commitPatience); r.checking.Load() {
			t.Error("the timer runs without a commit")
		}
	})
}
