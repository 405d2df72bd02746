package main

import (
	"context"
	"log/slog"
	"time"

	"collectord/collectord/admin"
	"collectord/collectord/httpserver"
	"collectord/collectord/udpserver"
	"collectord/config"
	"collectord/shipper"
	"collectord/wal"
)

// stopLimit returns the maximum duration of a stop.
func stopLimit(limits config.Shutdown) time.Duration {
	return limits.Drain + limits.Requests + limits.Datagrams + limits.Seal + limits.Grace
}

// newLossCounter returns a function that counts the accepted UDP usages that are not in the
// log: those lost since this call, and those that still wait. HTTP clients learn of a loss
// from their response, so their usages need no count.
func newLossCounter(log *wal.Log) func() uint64 {
	count := func() (dropped, waiting uint64) {
		udp := log.Ledger().BySource[wal.UDP]
		for _, n := range udp.Dropped {
			dropped += n
		}
		return dropped, udp.Waiting
	}
	before, _ := count()
	return func() uint64 {
		dropped, waiting := count()
		return dropped - before + waiting
	}
}

// stopOrder are the parts to stop, in this order.
type stopOrder struct {
	web          *httpserver.Server
	udp          *udpserver.Server
	log          *wal.Log
	ship         *shipper.Shipper
	adminServer  *admin.Server
	stopShipping context.CancelFunc
	shipped      <-chan struct{}
}

// partTimeout is the time limit for a part that was asked to end.
const partTimeout = time.Second

// shutDown stops the daemon without losing acknowledged usages, and without rejecting
// what clients sent before the listeners closed. A step that fails leaves the log as
// after a crash, and the next start recovers it.
func shutDown(limits config.Shutdown, logger *slog.Logger, s stopOrder) {
	within := func(d time.Duration, step func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		return step(ctx)
	}

	// Close the listeners. Open connections continue, and their responses ask clients
	// to close them.
	s.web.Drain()
	s.web.StopListening()
	if limits.Drain > 0 && s.web.Connections() > 0 {
		<-time.After(limits.Drain)
	}
	if err := within(limits.Requests, s.web.Shutdown); err != nil {
		logger.Warn("some HTTP requests were still open", "error", err)
	}
	// Clients sent the datagrams in the kernel's buffers while the daemon was running.
	if err := within(limits.Datagrams, s.udp.Drain); err != nil {
		logger.Warn("some datagrams may be unread", "error", err)
	}
	// Commit and seal, and ship as much as the time limit allows.
	if err := within(limits.Seal, s.log.Seal); err != nil {
		logger.Error("can't seal the active segment: the next start seals and ships it (check the disk)", "error", err)
	}
	remaining := 0
	_ = within(limits.Grace, func(ctx context.Context) error {
		remaining = s.ship.Drain(ctx)
		return nil
	})
	s.stopShipping()
	select {
	case <-s.shipped:
	case <-time.After(partTimeout):
		logger.Error("can't stop an upload: a disk does not answer (the next start ships the segment again)", "waited", partTimeout.String())
	}
	if remaining > 0 {
		logger.Warn("some segments are not shipped: the next start ships them", "segments", remaining)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.log.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			logger.Error("can't close the log: the next start recovers it as after a crash (check the disk)", "error", err)
		}
	case <-time.After(limits.Seal):
		logger.Error("can't close the log: its disk does not answer (the next start recovers it as after a crash)", "waited", limits.Seal.String())
	}
	if err := within(partTimeout, s.adminServer.Shutdown); err != nil {
		logger.Warn("can't close the admin server", "error", err)
	}
}
