package bucket

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Pace is a minimum rate of answers that share a line. TCP shares a line unfairly: one answer
// may stop for a minute while the others arrive. So two things are checked, only while a caller
// waits for an answer:
//
//   - All answers together arrive at minPace, in each StallTimeout of waiting.
//   - Each answer arrives at 1/minShare of an even share, or at minPace, in each ownWindow times
//     StallTimeout of waiting. Otherwise it would keep its reader as long as others arrive.
type Pace struct {
	received atomic.Int64 // bytes of all answers, also those that wait in the kernel
	waiting  atomic.Int32 // number of answers that callers wait for
}

const (
	minPace   = 4 << 10 // bytes a second, a quarter of the slowest supported line
	minShare  = 16
	ownWindow = 2
)

// trickleError is a timeout of net.Error.
type trickleError struct {
	minBytes int64
	within   time.Duration
}

func (e *trickleError) Error() string {
	return fmt.Sprintf("less than %d bytes arrived in %v", e.minBytes, e.within)
}
func (e *trickleError) Timeout() bool   { return true }
func (e *trickleError) Temporary() bool { return true }

// meter measures one answer of a Pace. A nil meter measures nothing. It is not safe for
// concurrent use.
type meter struct {
	pace  *Pace
	stall time.Duration

	isWaiting   bool // the caller waits for the header or for a part of the body
	waitBegan   time.Time
	waited      time.Duration // sum of the ended waits
	maxWaiting  int32         // max of pace.waiting since own began
	read        int64         // bytes that the caller has read
	received    int64         // bytes that have arrived, also those that wait in the kernel
	kernelStart int64         // what the kernel had received on the connection before the answer
	hasStart    bool          // kernelStart is known

	all, own window
}

// window is the start of a measurement.
type window struct {
	waited        time.Duration
	received, all int64 // bytes of the answer, and of all answers
}

// newMeter begins to wait for the header.
func newMeter(p *Pace, stall time.Duration) *meter {
	m := &meter{pace: p, stall: stall}
	m.all, m.own = m.window(), m.window()
	m.beginWait()
	return m
}

func (m *meter) window() window {
	w := window{m.waited, m.received, m.pace.received.Load()}
	if m.isWaiting {
		w.waited += time.Since(m.waitBegan)
	}
	return w
}

func (m *meter) beginWait() {
	if m != nil && !m.isWaiting {
		m.isWaiting, m.waitBegan = true, time.Now()
		m.pace.waiting.Add(1)
	}
}

// endWait ends a wait after n more bytes were read.
func (m *meter) endWait(n int) {
	if m == nil {
		return
	}
	if m.isWaiting {
		m.waited += time.Since(m.waitBegan)
		m.isWaiting = false
		m.pace.waiting.Add(-1)
	}
	m.read += int64(n)
	m.count(m.read)
}

// answered begins the measurements again once the header has arrived: a storage may need time for
// the first byte.
func (m *meter) answered() {
	if m != nil {
		m.all, m.own, m.maxWaiting = m.window(), m.window(), 0
	}
}

// connected is called when the answer will arrive on another connection.
func (m *meter) connected() {
	if m != nil {
		m.hasStart = false
	}
}

// arrived sets how many bytes the kernel has received on the connection; 0 is ignored.
func (m *meter) arrived(kernel uint64) {
	switch {
	case m == nil || kernel == 0:
	case !m.hasStart: // asked for the first time, so that a short answer needs no system call
		m.kernelStart, m.hasStart = int64(kernel)-m.received, true //nolint:gosec // no connection receives 2^63 bytes
	default:
		m.count(int64(kernel) - m.kernelStart) //nolint:gosec // as above
	}
}

// count counts the answer's bytes if they are more than before.
func (m *meter) count(received int64) {
	if more := received - m.received; more > 0 {
		m.received = received
		m.pace.received.Add(more)
	}
}

// check returns a *trickleError if too little has arrived while the caller waited.
func (m *meter) check() error {
	if m == nil {
		return nil
	}
	m.maxWaiting = max(m.maxWaiting, m.pace.waiting.Load(), 1)
	now := m.window()
	if now.waited-m.all.waited >= m.stall {
		if least := minBytes(m.stall); now.all-m.all.all < least {
			return &trickleError{least, m.stall}
		}
		m.all = now
	}
	if now.waited-m.own.waited >= ownWindow*m.stall {
		share := (now.all - m.own.all) / int64(m.maxWaiting) / minShare
		if least := min(share, minBytes(ownWindow*m.stall)); now.received-m.own.received < least {
			return &trickleError{least, ownWindow * m.stall}
		}
		m.own, m.maxWaiting = now, 0
	}
	return nil
}

// minBytes is how many bytes arrive at minPace.
func minBytes(d time.Duration) int64 { return int64(d.Seconds() * minPace) }
