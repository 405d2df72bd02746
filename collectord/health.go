package main

import (
	"errors"
	"sync/atomic"

	"collectord/collectord/admin"
	"collectord/collectord/httpserver"
	"collectord/collectord/udpserver"
	"collectord/shipper"
	"collectord/wal"
)

// health is what the admin listener is told of the daemon, from before the log
// is open until it is closed.
type health struct {
	reload   *reloader
	lines    func() admin.LoggerSnapshot
	troubles func() map[string]bool
	parts    atomic.Pointer[parts] // nil while starting
	clock    atomic.Pointer[clockWatch]
	stopping atomic.Bool
}

// parts are what there is to tell of.
type parts struct {
	log  *wal.Log
	ship *shipper.Shipper
	web  *httpserver.Server
	udp  *udpserver.Server
}

// snapshot is false while there is nothing to tell.
func (h *health) snapshot() (admin.Snapshot, bool) {
	p := h.parts.Load()
	if p == nil {
		return admin.Snapshot{}, false
	}
	s := snapshot(p.log, p.ship, p.web, p.udp, h.reload)
	s.Logger, s.Troubles = h.lines(), h.troubles()
	if clock := h.clock.Load(); clock != nil {
		s.ClockWrong = clock.wrong.Load()
	}
	return s, true
}

// reasons says why the daemon should get no traffic.
func (h *health) reasons() (why []string) {
	p := h.parts.Load()
	if p == nil {
		return []string{admin.ReadyStarting}
	}
	if h.stopping.Load() {
		why = append(why, admin.ReadyDraining)
	}
	if err := p.log.Full(); err != nil && !errors.Is(err, wal.ErrClosed) {
		why = append(why, err.Error())
	}
	return why
}

// putAside lists what the log put aside, for people to see to.
func (h *health) putAside() (all []admin.PutAside) {
	p := h.parts.Load()
	if p == nil {
		return nil
	}
	for _, a := range p.log.PutAside() {
		all = append(all, admin.PutAside{Path: a.Path, Reason: a.Why})
	}
	return all
}

// stuck says which loops do not turn. A start takes as long as it takes.
func (h *health) stuck() error {
	p := h.parts.Load()
	if p == nil {
		return nil
	}
	return errors.Join(p.log.Alive(), p.ship.Alive(), p.web.Alive())
}
