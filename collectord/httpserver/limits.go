package httpserver

import (
	"math"
	"time"
)

// Limits can be changed while the server runs. Zero values mean the defaults.
type Limits struct {
	MaxRecord         int           // bytes of a usage; default 1 MiB
	MaxConnections    int           // open connections; default 10,000
	MaxTLSConnections int           // connections over TLS, of MaxConnections; default 1,024
	MaxDescriptors    int           // descriptors of all connections, closing ones included; default: no limit
	HeaderTimeout     time.Duration // max time for a request's header; default 5 s
	BodyRate          int           // min bytes a second of an arriving body; default 1 KiB
	BodyGrace         time.Duration // time before BodyRate applies; default 5 s
	AnswerTimeout     time.Duration // max time for the client to read the answer; default 10 s
	IdleTimeout       time.Duration // max time between requests; default 75 s
	Rate              float64       // max usages a second of all clients together; default: no limit
	Burst             int           // max usages accepted at once; default: one second of Rate
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

// maxBodyTime returns how long n bytes of a body may take.
func (l *Limits) maxBodyTime(n int) time.Duration {
	return l.BodyGrace + time.Duration(n)*time.Second/time.Duration(l.BodyRate)
}

// SetLimits replaces the limits. A connection's deadlines and the limits of a request
// apply from its next state or request on. The numbers of connections and the rate apply
// at once. Open connections stay open, unless a lower MaxDescriptors makes some end.
func (h *Server) SetLimits(l Limits) {
	l = l.withDefaults()
	h.limits.Store(&l)
	h.conns.wakeListeners()
	h.rates.SetOverall(l.Rate, l.Burst, time.Now())
}

// reservedDescriptors returns how many of MaxDescriptors are reserved for connections that
// make room, linger, or are turned away.
func (l *Limits) reservedDescriptors() int {
	return min(maxTurnAways+64, l.MaxDescriptors/4)
}

// maxOpen returns how many connections may be open, not counting those that are closing.
func (l *Limits) maxOpen() int { return min(l.MaxConnections, l.maxWithDescriptors()) }

// maxSecure returns how many connections may be over TLS.
func (l *Limits) maxSecure() int { return min(l.MaxTLSConnections, l.maxOpen()) }

// maxWithDescriptors returns how many open connections MaxDescriptors suffices for.
func (l *Limits) maxWithDescriptors() int {
	if l.MaxDescriptors == 0 {
		return math.MaxInt
	}
	return max(1, l.MaxDescriptors-l.reservedDescriptors())
}

// maxTurningAway returns how many connections that are turned away may stay open for their
// answer.
func (l *Limits) maxTurningAway() int32 {
	if l.MaxDescriptors == 0 {
		return maxTurnAways
	}
	return int32(min(maxTurnAways, l.reservedDescriptors()/2))
}
