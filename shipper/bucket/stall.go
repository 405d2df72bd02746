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

// stallError is a timeout of net.Error.
type stallError struct{ after time.Duration }

func (e *stallError) Error() string {
	return fmt.Sprintf("nothing moved for %v: the storage acknowledged nothing and answered nothing", e.after)
}
func (e *stallError) Timeout() bool   { return true }
func (e *stallError) Temporary() bool { return true }

// watch cancels a request whose peer makes no progress: it neither acknowledges sent
// bytes nor answers. Bytes that only entered the kernel are no progress: the kernel
// buffers megabytes, for which a slow line needs minutes. Time in which it is not the
// peer's turn does not count.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
	pace   *meter // nil: any number of bytes is progress

	onSilence func(time.Duration) // CallOptions.OnSilence

	mu         sync.Mutex // guards the fields below
	timer      *time.Timer
	conn       syscall.RawConn // of TCP, below TLS; nil: no connection
	progress   progress        // at the last look; zero: none yet
	progressAt time.Time       // when the peer last made progress, or its turn began
	sending    bool            // a part of the body is being read, or waits for the bandwidth
	answered   bool            // the header of the answer has arrived
	reading    bool            // the caller waits for a part of the answer
	ended      bool
	silent     bool // onSilence was called with a duration
}

// progress is how many bytes the peer's TCP has acknowledged and sent.
type progress struct{ acknowledged, received uint64 }

func newWatch(parent context.Context, o *CallOptions) *watch {
	stall := o.StallTimeout
	if stall == 0 {
		stall = DefaultStall
	}
	w := &watch{stall: stall, onSilence: o.OnSilence, progressAt: time.Now()}
	if o.Pace != nil {
		w.pace = newMeter(o.Pace, stall)
	}
	w.ctx, w.cancel = context.WithCancelCause(parent)
	w.ctx = httptrace.WithClientTrace(w.ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { w.setConn(info.Conn) }})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.interval(), w.tick)
	return w
}

// interval is how often the connection is measured. A stall is noticed at most two
// intervals late, since the first measurement counts earlier progress.
func (w *watch) interval() time.Duration { return max(w.stall/10, time.Millisecond) }

// setConn sets the connection that carries the request.
func (w *watch) setConn(c net.Conn) {
	for {
		secure, ok := c.(interface{ NetConn() net.Conn }) // a tls.Conn; with a proxy there may be two, one inside the other
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
	w.progress, w.progressAt = progress{}, time.Now()
	w.pace.connected()
}

var _ interface{ NetConn() net.Conn } = (*tls.Conn)(nil)

// measure asks the kernel for the progress, and whether the peer still has to acknowledge
// bytes.
func (w *watch) measure() (p progress, unacknowledged bool) {
	if w.conn == nil {
		return p, false
	}
	_ = w.conn.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			p = progress{info.Bytes_acked, info.Bytes_received}
		}
		queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		unacknowledged = err == nil && queued > 0
	})
	return p, unacknowledged
}

// updateLocked records whether the peer has made progress. The caller holds the mutex.
func (w *watch) updateLocked() {
	p, unacknowledged := w.measure()
	w.pace.arrived(p.received)
	ourTurn := w.sending && !unacknowledged
	if w.answered {
		ourTurn = !w.reading
	}
	if ourTurn || p != w.progress {
		w.progressAt, w.progress = time.Now(), p
	}
}

// setSending sets sending after a look at the progress so far.
func (w *watch) setSending(now bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.updateLocked()
	w.sending = now
}

// beginRead begins the peer's turn when the caller waits for the answer. Only a wait of more
// than an interval needs a measurement, which tick makes.
func (w *watch) beginRead() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading, w.progressAt = true, time.Now()
	w.pace.beginWait()
}

// endRead ends the peer's turn: the header, or n more bytes of the answer, have arrived. After an
// error another request may use the connection.
func (w *watch) endRead(n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pace.endWait(n)
	if !w.answered {
		w.pace.answered()
	}
	w.answered, w.reading, w.progressAt = true, false, time.Now()
	if err != nil {
		w.conn = nil
	}
}

func (w *watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.updateLocked()
	quiet := time.Since(w.progressAt)
	remaining := w.stall - quiet
	if !w.ended {
		w.reportSilence(quiet)
	}
	switch {
	case w.ended:
	case remaining <= 0:
		w.cancel(&stallError{w.stall})
	default:
		if err := w.pace.check(); err != nil {
			w.cancel(err)
			return
		}
		w.timer.Reset(min(remaining, w.interval()))
	}
}

// reportSilence reports how long the peer has been quiet, and once that it is not any more. The
// caller holds the mutex.
func (w *watch) reportSilence(quiet time.Duration) {
	is := quiet >= w.stall/4
	if w.onSilence == nil || !is && !w.silent {
		return
	}
	if w.silent = is; !is {
		quiet = 0
	}
	w.onSilence(quiet)
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reportSilence(0)
	w.pace.endWait(0)
	w.ended, w.conn, w.pace = true, nil, nil
	w.timer.Stop()
	w.cancel(nil)
}

// explain replaces "context canceled" by its cause.
func (w *watch) explain(err error) error {
	switch cause := context.Cause(w.ctx).(type) { //nolint:errorlint // they are never wrapped
	case *stallError, *trickleError:
		return cause
	}
	return err
}
