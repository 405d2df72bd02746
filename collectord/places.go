package main

import (
	"runtime"
	"sync"
)

// places adapts GOMAXPROCS to long computations. Normally it is the number of cores. A
// long computation adds one, so that it competes for the cores through the kernel and
// blocks no goroutine that serves requests. A permanently higher value would be worse:
// the scheduler wakes a thread for each idle place, and on a busy machine these threads
// take CPU time from each other and from the clients.
type places struct {
	cores int

	mu  sync.Mutex // guards the fields below
	out int        // places added for computations
}

func newPlaces() *places { return &places{cores: runtime.GOMAXPROCS(0)} }

// lend adds a place for a computation until giveBack is called. The total never exceeds
// twice the number of cores.
func (p *places) lend() (giveBack func()) {
	p.change(+1)
	return func() { p.change(-1) }
}

func (p *places) change(by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out += by
	runtime.GOMAXPROCS(p.cores + min(p.cores, p.out))
}
