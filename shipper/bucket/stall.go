package bucket

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultStall is how long a storage may neither acknowledge nor answer anything.
const DefaultStall = time.Minute

// stallError is a time out, for net.Error.
type stallError struct{ after time.Duration }

func (e *stallError) Error() string {
	return fmt.Sprintf("nothing moved for %v: the storage acknowledged nothing and answered nothing", e.after)
}
func (e *stallError) Timeout() bool   { return true }
func (e *stallError) Temporary() bool { return true }

// trickleError is a time out, too.
type trickleError struct {
	least int64
	in    time.Duration
}

func (e *trickleError) Error() string {
	return fmt.Sprintf("less than %d bytes came in %v", e.least, e.in)
}
func (e *trickleError) Timeout() bool   { return true }
func (e *trickleError) Temporary() bool { return true }

// watch ends a request whose peer stands still: it acknowledges nothing of what
// was sent, and answers nothing. Bytes that only went into the kernel are no
// progress: it takes megabytes at once, which a slow line needs minutes for. Time
// in which it is not the peer's turn does not count.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
	least  int64 // bytes of the answer that must come in each stall; 0: any number

	mu       sync.Mutex // guards what follows
	timer    *time.Timer
	conn     syscall.RawConn // of TCP, beneath TLS; nil while there is none
	progress progress        // when it was looked at last; zero: not yet
	since    time.Time       // when the peer moved last, or its turn began
	sending  bool            // a piece of the body is being read here, or waits for the bandwidth
	answered bool            // the header of the answer is here
	reading  bool            // somebody waits for a piece of the answer
	ended    bool

	// Of the pace, if least is not 0.
	came  int64     // bytes of the answer since begun
	begun time.Time // when what must come now was begun, but for the time in which nobody waited
	left  time.Time // when the one who waits for the answer left
}

// progress is what the peer's TCP has taken and sent so far.
type progress struct{ acknowledged, received uint64 }

func newWatch(parent context.Context, stall time.Duration, least int64) *watch {
	if stall == 0 {
		stall = DefaultStall
	}
	w := &watch{stall: stall, least: least, since: time.Now(), begun: time.Now()}
	w.ctx, w.cancel = context.WithCancelCause(parent)
	w.ctx = httptrace.WithClientTrace(w.ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { w.use(info.Conn) }})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.interval(), w.tick)
	return w
}

// interval is how often the connection is looked at. A stall is noticed at most two of
// them late: what moved before the first look is seen then.
func (w *watch) interval() time.Duration { return max(w.stall/10, time.Millisecond) }

// use names the connection that carries the request.
func (w *watch) use(c net.Conn) {
	for {
		secure, ok := c.(interface{ NetConn() net.Conn }) // tls.Conn, perhaps twice where there is a proxy
		if !ok {
			break
		}
		c = secure.NetConn()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = nil
	if c, ok := c.(syscall.Conn); ok {
		w.conn, _ = c.SyscallConn()
	}
	w.progress, w.since = progress{}, time.Now()
}

var _ interface{ NetConn() net.Conn } = (*tls.Conn)(nil)

// measure asks the kernel what has moved, and whether the peer still has to
// acknowledge something.
func (w *watch) measure() (p progress, owes bool) {
	if w.conn == nil {
		return p, false
	}
	_ = w.conn.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			p = progress{info.Bytes_acked, info.Bytes_received}
		}
		queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		owes = err == nil && queued > 0
	})
	return p, owes
}

// look notes whether the peer has moved. The mutex is held.
func (w *watch) look() {
	p, owes := w.measure()
	ourTurn := w.sending && !owes
	if w.answered {
		ourTurn = !w.reading
	}
	if ourTurn || p != w.progress {
		w.since, w.progress = time.Now(), p
	}
}

// sends looks before the turn of sending changes.
func (w *watch) sends(now bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
	w.sending = now
}

// reads begins the peer's turn, once its answer is here. Only who waits for longer than an
// interval needs to measure.
func (w *watch) reads() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.reading, w.since, w.begun = true, now, w.begun.Add(now.Sub(w.left))
}

// read ends the peer's turn: its answer is here, or n bytes more of it.
func (w *watch) read(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.came += int64(n); !w.answered || w.came >= w.least {
		w.came, w.begun = 0, now
	}
	w.answered, w.reading, w.since, w.left = true, false, now, now
}

func (w *watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
	left := w.stall - time.Since(w.since)
	switch {
	case w.ended:
	case left <= 0:
		w.cancel(&stallError{w.stall})
	case w.least > 0 && (w.reading || !w.answered) && time.Since(w.begun) >= w.stall:
		w.cancel(&trickleError{w.least, w.stall})
	default:
		w.timer.Reset(min(left, w.interval()))
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended, w.conn = true, nil
	w.timer.Stop()
	w.cancel(nil)
}

// explain puts the cause in the place of "context canceled".
func (w *watch) explain(err error) error {
	switch cause := context.Cause(w.ctx).(type) { //nolint:errorlint // they are never wrapped
	case *stallError, *trickleError:
		return cause
	}
	return err
}
