package udpserver

import (
	"sync"
	"time"

	"collectord/wal"
)

// watchInterval is how often the server looks at what was lost: often enough to
// tell of it while it goes on, and before the kernel's counters wrap.
const watchInterval = time.Second

// watch tells the log of the process what was lost, once a second and not
// once a datagram.
type watch struct {
	mu    sync.Mutex     // guards what follows
	since map[string]int // usages, or datagrams, since the last look, by reason

	told  map[string]bool // of the troubles that are not over; only look uses it, and this:
	drops uint64
}

// note counts what was refused.
func (w *watch) note(reason string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since == nil {
		w.since = map[string]int{}
	}
	w.since[reason] += n
}

func (u *Server) runWatch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.look()
		case <-u.draining:
			return
		}
	}
}

// look tells what was lost since it last did, and what is no longer.
func (u *Server) look() {
	w := &u.watch
	w.mu.Lock()
	since := w.since
	w.since = nil
	w.mu.Unlock()
	if w.told == nil {
		w.told = map[string]bool{}
	}
	// Names of troubles are few: those of the reasons.
	for reason, n := range since {
		message := "what came in datagrams is refused"
		if reason == wal.ReasonOverloaded {
			message = "usages are refused: the disk is busy and udp.queue is full"
		}
		w.told[reason] = true
		u.opts.Logger.Warn(message, "trouble", "udp_"+reason, "reason", reason, "usages", n)
	}
	for reason := range w.told {
		if reason != kernelTrouble && since[reason] == 0 {
			delete(w.told, reason)
			u.opts.Logger.Info("nothing in datagrams is refused any more", "trouble", "udp_"+reason, "reason", reason)
		}
	}
	drops := u.KernelDrops()
	switch n := drops - w.drops; {
	case n > 0:
		w.told[kernelTrouble] = true
		u.opts.Logger.Warn("the kernel drops datagrams: the receive buffer (udp.receive_buffer) is full", "trouble", "udp_"+kernelTrouble, "datagrams", n)
	case w.told[kernelTrouble]:
		delete(w.told, kernelTrouble)
		u.opts.Logger.Info("the kernel drops no datagrams any more", "trouble", "udp_"+kernelTrouble)
	}
	w.drops = drops
}

// kernelTrouble stands beside the reasons of the ledger.
const kernelTrouble = "kernel_drops"
