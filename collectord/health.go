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

// health provides the state of the daemon to the admin server, from before the log is
// open until it is closed.
type health struct {
	reload       *reloader
	loggerCounts func() admin.LoggerSnapshot
	troubles     func() map[string]bool
	parts        atomic.Pointer[parts] // nil during the start
	clock        atomic.Pointer[clockWatch]
	stopping     atomic.Bool
}

// parts are the parts of the daemon that health reports on.
type parts struct {
	log  *wal.Log
	ship *shipper.Shipper
	web  *httpserver.Server
	udp  *udpserver.Server
}

// snapshot returns the state of all parts, or false during the start.
func (h *health) snapshot() (admin.Snapshot, bool) {
	p := h.parts.Load()
	if p == nil {
		return admin.Snapshot{}, false
	}
	s := snapshot(p.log, p.ship, p.web, p.udp, h.reload)
	s.Logger, s.Troubles = h.loggerCounts(), h.troubles()
	if clock := h.clock.Load(); clock != nil {
		s.ClockWrong = clock.wrong.Load()
	}
	return s, true
}

// notReady returns why the daemon is not ready for traffic; nil: it is ready.
func (h *health) notReady() (why []string) {
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

// putAside lists what the log has put aside, which an operator must examine.
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

// stuckLoops returns an error that names the loops without progress. It returns nil during
// the start, whose duration has no limit.
func (h *health) stuckLoops() error {
	p := h.parts.Load()
	if p == nil {
		return nil
	}
	return errors.Join(p.log.Alive(), p.ship.Alive(), p.web.Alive())
}
