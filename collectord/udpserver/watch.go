package udpserver

import (
	"sync"
	"time"

	"collectord/wal"
)

// watchInterval is the interval between two checks for losses. It is short enough to
// log a loss while it lasts, and to read the kernel's counters before they wrap.
const watchInterval = time.Second

// watch logs losses once per watchInterval rather than once per datagram.
type watch struct {
	mu     sync.Mutex     // guards counts
	counts map[string]int // usages or datagrams since the last check, by reason

	openTroubles map[string]bool // troubles that have not ended; this field and drops are used only by checkLosses
	drops        uint64
}

// count counts n rejected usages or datagrams.
func (w *watch) count(reason string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts == nil {
		w.counts = map[string]int{}
	}
	w.counts[reason] += n
}

func (u *Server) watchLosses() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.checkLosses()
		case <-u.draining:
			return
		}
	}
}

// checkLosses logs the losses since its last call, and the troubles that have ended.
func (u *Server) checkLosses() {
	w := &u.watch
	w.mu.Lock()
	counts := w.counts
	w.counts = nil
	w.mu.Unlock()
	if w.openTroubles == nil {
		w.openTroubles = map[string]bool{}
	}
	// There are few names of troubles: one per reason.
	for reason, n := range counts {
		message := "usages in datagrams are rejected"
		if reason == wal.ReasonOverloaded {
			message = "usages in datagrams are rejected: the disk is busy and udp.queue is full"
		}
		w.openTroubles[reason] = true
		u.opts.Logger.Warn(message, "trouble", "udp_"+reason, "reason", reason, "usages", n)
	}
	for reason := range w.openTroubles {
		if reason != kernelTrouble && counts[reason] == 0 {
			delete(w.openTroubles, reason)
			u.opts.Logger.Info("usages in datagrams are not rejected any more", "trouble", "udp_"+reason, "reason", reason)
		}
	}
	drops := u.KernelDrops()
	switch n := drops - w.drops; {
	case n > 0:
		w.openTroubles[kernelTrouble] = true
		u.opts.Logger.Warn("the kernel drops datagrams: the receive buffer (udp.receive_buffer) is full", "trouble", "udp_"+kernelTrouble, "datagrams", n)
	case w.openTroubles[kernelTrouble]:
		delete(w.openTroubles, kernelTrouble)
		u.opts.Logger.Info("the kernel drops no datagrams any more", "trouble", "udp_"+kernelTrouble)
	}
	w.drops = drops
}

// kernelTrouble is the trouble for drops by the kernel. All other troubles are named after
// a reason for rejected usages.
const kernelTrouble = "kernel_drops"
