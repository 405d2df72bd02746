package httpserver

import (
	"net"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// Limits can be changed while the server runs. The zero value of each field
// stands for its default.
type Limits struct {
	MaxRecord      int           // bytes of a usage; default 1 MiB
	MaxConnections int           // open at a time; default 1,024
	MaxDescriptors int           // of all connections, those that are closing included; default: no limit
	HeaderTimeout  time.Duration // for a request's header; default 5 s
	BodyRate       int           // bytes a second with which a body must arrive; default 1 KiB
	BodyGrace      time.Duration // before that counts; default 5 s
	AnswerTimeout  time.Duration // for the client to take the answer; default 10 s
	IdleTimeout    time.Duration // between requests; default 75 s
	Rate           float64       // usages a second of all clients together; default: no limit
	Burst          int           // usages taken at once; default: what Rate gives in a second
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.MaxRecord, 1<<20)
	set(&l.MaxConnections, 1024)
	set(&l.BodyRate, 1<<10)
	patience := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	patience(&l.HeaderTimeout, 5*time.Second)
	patience(&l.BodyGrace, 5*time.Second)
	patience(&l.AnswerTimeout, 10*time.Second)
	patience(&l.IdleTimeout, 75*time.Second)
	return l
}

// arrival is how long n bytes of a body may take.
func (l *Limits) arrival(n int) time.Duration {
	return l.BodyGrace + time.Duration(n)*time.Second/time.Duration(l.BodyRate)
}

// SetLimits puts new limits into effect: for connections from the next request
// on, and for their number at once. Those that are open already stay, as far as
// there are descriptors for them.
func (h *Server) SetLimits(l Limits) {
	l = l.withDefaults()
	h.limits.Store(&l)
	h.open.wakeListeners()
	h.rates.SetOverall(l.Rate, l.Burst, time.Now())
}

// prefetched are bytes of a body that the server reads before the handler runs,
// which reads the rest, and keeps until the answer. By itself it would be 8 KiB.
const prefetched = 1 << 10

// headerReceived sets the limits of the request that begins, and gives the part
// of its body that is read before the handler runs its time. A stranger's is not
// read at all.
func (h *Server) headerReceived(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
	c := fasthttp.RequestConfig{MaxRequestBodySize: prefetched}
	if n := header.ContentLength(); n > 0 {
		c.ReadTimeout = h.limits.Load().arrival(min(n, prefetched))
	}
	if header.ContentLength() > 0 && header.IsPost() && h.isStranger(header) {
		header.SetContentLength(unreadLength)
	}
	return c
}

// answerBuffer is what the kernel keeps of answers that a client does not take.
// By itself it would keep megabytes, and the client be served all that time.
const answerBuffer = 64 << 10

// deferAcceptSeconds is how many seconds the kernel keeps a connection that says nothing.
const deferAcceptSeconds = 1

// prepare sets what connections have from their listener on Linux: the bound of
// their send buffer, that what is written leaves at once, and that they are
// handed over with their first bytes, which saves waking up for each of them
// twice. One that says nothing is handed over after deferAcceptSeconds, and then has its
// HeaderTimeout; until then it takes none of MaxConnections, only a place in the
// listener's queue. Where that fails they are as they are.
func prepare(ln net.Listener) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, answerBuffer)
			// The others are not of unix sockets.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAcceptSeconds)
		})
	}
}
