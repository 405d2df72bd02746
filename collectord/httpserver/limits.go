package httpserver

import (
	"math"
	"time"
)

// Limits can be changed while the server runs. The zero value of each field
// stands for its default.
type Limits struct {
	MaxRecord         int           // bytes of a usage; default 1 MiB
	MaxConnections    int           // open at a time; default 10,000
	MaxTLSConnections int           // of these over TLS; default 1,024
	MaxDescriptors    int           // of all connections, those that are closing included; default: no limit
	HeaderTimeout     time.Duration // for a request's header; default 5 s
	BodyRate          int           // bytes a second with which a body must arrive; default 1 KiB
	BodyGrace         time.Duration // before that counts; default 5 s
	AnswerTimeout     time.Duration // for the client to take the answer; default 10 s
	IdleTimeout       time.Duration // between requests; default 75 s
	Rate              float64       // usages a second of all clients together; default: no limit
	Burst             int           // usages taken at once; default: what Rate gives in a second
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.MaxRecord, 1<<20)
	set(&l.MaxConnections, 10_000)
	set(&l.MaxTLSConnections, 1024)
	set(&l.BodyRate, 1<<10)
	setTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	setTime(&l.HeaderTimeout, 5*time.Second)
	setTime(&l.BodyGrace, 5*time.Second)
	setTime(&l.AnswerTimeout, 10*time.Second)
	setTime(&l.IdleTimeout, 75*time.Second)
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

// spare is how many of MaxDescriptors are for connections that are closing: they
// make room, linger, or are turned away.
func (l *Limits) spare() int {
	return min(maxLeaving+64, l.MaxDescriptors/4)
}

// connections is how many may be open at a time, beside those that are closing.
func (l *Limits) connections() int { return min(l.MaxConnections, l.bearable()) }

// secure is how many of these may be over TLS.
func (l *Limits) secure() int { return min(l.MaxTLSConnections, l.connections()) }

// bearable is how many connections there are descriptors for.
func (l *Limits) bearable() int {
	if l.MaxDescriptors == 0 {
		return math.MaxInt
	}
	return max(1, l.MaxDescriptors-l.spare())
}

// leaving is how many who are turned away are listened to.
func (l *Limits) leaving() int32 {
	if l.MaxDescriptors == 0 {
		return maxLeaving
	}
	return int32(min(maxLeaving, l.spare()/2))
}
