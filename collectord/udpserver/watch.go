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
	mu    sync.Mutex     // guards since
	since map[string]int // usages or datagrams since the last check, by reason

	told  map[string]bool // troubles that have not ended; this field and drops are used only by look
	drops uint64
}

// note counts n refused usages or datagrams.
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

// look logs the losses since its last call, and the troubles that have ended.
func (u *Server) look() {
	w := &u.watch
	w.mu.Lock()
	since := w.since
	w.since = nil
	w.mu.Unlock()
	if w.told == nil {
		w.told = map[string]bool{}
	}
	// There are few names of troubles: one per reason.
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

// kernelTrouble is a trouble in addition to those of the ledger's reasons.
const kernelTrouble = "kernel_drops"
