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

// allOf is how long a stop may take in all.
func allOf(limits config.Shutdown) time.Duration {
	return limits.Drain + limits.Requests + limits.Datagrams + limits.Seal + limits.Grace
}

// lostFrom returns what counts the usages that came by UDP, were accepted, and are in
// no log: from this call on. The clients of HTTP get an answer.
func lostFrom(log *wal.Log) func() uint64 {
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

// steps are the parts that are stopped, in the order in which they are.
type steps struct {
	web          *httpserver.Server
	udp          *udpserver.Server
	log          *wal.Log
	ship         *shipper.Shipper
	adminServer  *admin.Server
	stopShipping context.CancelFunc
	shipped      <-chan struct{}
}

// endWithin is how long a part that was asked to end may take.
const endWithin = time.Second

// shutDown takes leave without losing what was acknowledged, or refusing what
// was sent while we still listened. What fails is left to the next start: the log is as
// a crash leaves it then.
func shutDown(limits config.Shutdown, logger *slog.Logger, s steps) {
	within := func(d time.Duration, step func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		return step(ctx)
	}

	// No new connections; those that are open are served on, and told to close.
	s.web.Drain()
	s.web.StopListening()
	if limits.Drain > 0 && s.web.Connections() > 0 {
		<-time.After(limits.Drain)
	}
	if err := within(limits.Requests, s.web.Shutdown); err != nil {
		logger.Warn("some HTTP requests were still open", "error", err)
	}
	// What the kernel holds for us was sent to us.
	if err := within(limits.Datagrams, s.udp.Drain); err != nil {
		logger.Warn("some datagrams may be unread", "error", err)
	}
	// Commit, seal, and ship what can be shipped in time.
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
	case <-time.After(endWithin):
		logger.Error("can't stop an upload: a disk does not answer (the next start ships the segment again)", "waited", endWithin.String())
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
	if err := within(endWithin, s.adminServer.Shutdown); err != nil {
		logger.Warn("can't close the admin server", "error", err)
	}
}
