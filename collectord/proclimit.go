package main

import (
	"runtime"
	"sync"
)

// procLimit adapts GOMAXPROCS to long computations. Normally it is the number of cores. A
// long computation adds one, so that it competes for the cores through the kernel and
// blocks no goroutine that serves requests. A permanently higher value would be worse:
// the scheduler wakes a thread for each idle processor of the limit, and on a busy machine these threads
// take CPU time from each other and from the clients.
type procLimit struct {
	cores int

	mu     sync.Mutex // guards the fields below
	raised int        // added for computations
}

func newProcLimit() *procLimit { return &procLimit{cores: runtime.GOMAXPROCS(0)} }

// raise adds one to GOMAXPROCS for a computation until lower is called. The total never exceeds
// twice the number of cores.
func (p *procLimit) raise() (lower func()) {
	p.change(+1)
	return func() { p.change(-1) }
}

func (p *procLimit) change(by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raised += by
	runtime.GOMAXPROCS(p.cores + min(p.cores, p.raised))
}
