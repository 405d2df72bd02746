package main

import (
	"runtime"
	"sync"
)

// places are where goroutines can run: as many as there are cores, and more only
// while something computes for long. It then competes for the cores as others do,
// and does not hold the places of those who serve requests. With places to spare
// the scheduler wakes a thread for each of them that might find work, and on a
// busy machine they take the cores from each other and from the clients.
type places struct {
	cores int

	mu  sync.Mutex // guards what follows
	out int        // lent to what computes
}

func newPlaces() *places { return &places{cores: runtime.GOMAXPROCS(0)} }

// lend adds a place until it is given back, but not more than there are cores.
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
