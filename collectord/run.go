package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"collectord/collectord/admin"
	"collectord/collectord/ingest"
	"collectord/config"
	"collectord/shipper"
	"collectord/wal"
)

// memoryLimit is where the garbage collector begins to work harder. It bounds
// nothing by itself; the limits of the packages do.
const memoryLimit = 28 << 20

func runCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Start the daemon",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, warnings, err := settings(cmd)
			if err != nil {
				return err
			}
			logger, err := newLogger(cfg.Log)
			if err != nil {
				return err
			}
			for _, w := range warnings {
				logger.Warn(w)
			}
			return run(cmd.Context(), cfg, logger)
		},
	}
	config.AddFlags(c.Flags())
	return c
}

// run is the daemon's life:
//
//	POST /api/usages -> ingest.HTTP --Append--.
//	                                           >-- wal.Log --Sealed--> shipper --Put--> bucket
//	datagrams       -> ingest.UDP --Enqueue---'                             `--Remove--> wal.Log
//
//	GET /metrics    -> admin      (reads from all of them)
//
// Everything that can fail for a reason an operator must know of, such as a port
// in use, fails before the first goroutine starts.
func run(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	seal := make(chan os.Signal, 1)
	signal.Notify(seal, syscall.SIGUSR1)
	defer signal.Stop(seal)
	debug.SetMemoryLimit(memoryLimit + cfg.WAL.SegmentSize*3/2)

	// The sockets first: a second daemon with the same configuration finds the
	// port taken before it touches anything.
	ears, err := listen(cfg, logger)
	if err != nil {
		return err
	}
	defer ears.close()
	log, err := wal.Open(cfg.DataDir, walOptions(cfg, logger))
	if err != nil {
		return err
	}
	store, err := openStore(cfg, logger)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	ship, err := shipper.New(log, store, shipper.Options{
		SpoolDir:    filepath.Join(cfg.DataDir, "spool"),
		Reserve:     cfg.WAL.SegmentSize,
		Concurrency: cfg.Shipper.Concurrency,
		Level:       cfg.Shipper.Level,
		Logger:      logger,
	})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	web := ingest.NewHTTP(log, httpOptions(cfg, logger))
	udp, err := ingest.NewUDP(log, ears.udp, udpOptions(cfg, logger))
	if err != nil {
		return errors.Join(err, log.Close())
	}
	var stopping atomic.Bool
	office := admin.New(admin.Options{
		Version:  version,
		Snapshot: func() admin.Snapshot { return snapshot(log, ship, web, udp) },
		Ready:    func() []string { return reasons(log, &stopping) },
		Live:     func() error { return nil },
	})

	// From here on it runs.
	failed := make(chan error, len(ears.http)+len(ears.admin))
	shipping, stopShipping := context.WithCancel(context.WithoutCancel(ctx))
	shipped := make(chan struct{})
	go func() { defer close(shipped); ship.Run(shipping) }()
	udp.Start()
	for _, ln := range ears.http {
		go func() { failed <- web.Serve(ln) }()
	}
	for _, ln := range ears.admin {
		go func() { failed <- office.Serve(ln) }()
	}
	logID, _ := log.Identity()
	left := log.Ledger()
	logger.Info("collectord is running", "version", version,
		"http", cfg.HTTP.Listen, "udp", cfg.UDP.Listen, "admin", cfg.Admin.Listen,
		"data_dir", cfg.DataDir, "destination", store.String(), "node", cfg.Node,
		"log_id", fmt.Sprintf("%016x", logID), "left_from_before", left.Pending)

	var cause error
	for running := true; running; {
		select {
		case <-seal:
			sealNow(log, logger)
			continue
		case s := <-signals:
			logger.Info("stopping", "signal", s.String())
		case <-ctx.Done():
		case cause = <-failed:
			logger.Error("stopping", "error", cause)
		}
		running = false
	}
	stopping.Store(true)
	done := make(chan error, 1)
	go func() {
		done <- shutDown(cfg, logger, steps{ears, web, udp, log, ship, office, stopShipping, shipped})
	}()
	select {
	case err := <-done:
		return errors.Join(cause, err)
	case <-signals:
		logger.Warn("stopping at once: what was acknowledged is in the log")
		return errors.Join(cause, errors.New("interrupted by a second signal"))
	}
}

// sealNow seals what was appended so far, so that it is shipped at once.
func sealNow(log *wal.Log, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), finishSealing)
	defer cancel()
	if err := log.Seal(ctx); err != nil {
		logger.Error("can't seal the active segment", "signal", syscall.SIGUSR1.String(), "error", err)
		return
	}
	logger.Info("sealed the active segment", "signal", syscall.SIGUSR1.String())
}

// steps are the parts that are stopped, in the order in which they are.
type steps struct {
	ears         *listeners
	web          *ingest.HTTP
	udp          *ingest.UDP
	log          *wal.Log
	ship         *shipper.Shipper
	office       *admin.Server
	stopShipping context.CancelFunc
	shipped      <-chan struct{}
}

// Bounds on steps of the shutdown that should be instant.
const (
	finishRequests = 5 * time.Second
	finishDraining = 2 * time.Second
	finishSealing  = 5 * time.Second
)

// shutDown takes leave without losing what was acknowledged, or refusing what
// was sent while we still listened.
func shutDown(cfg *config.Config, logger *slog.Logger, s steps) error {
	within := func(d time.Duration, step func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		return step(ctx)
	}
	var errs []error

	// No new connections; those that are open are served on, and told to close.
	s.web.Drain()
	s.ears.closeHTTP()
	if cfg.Shutdown.Drain > 0 && s.web.Connections() > 0 {
		<-time.After(cfg.Shutdown.Drain)
	}
	if err := within(finishRequests, s.web.Shutdown); err != nil {
		logger.Warn("some HTTP requests were still open", "error", err)
	}
	// What the kernel holds for us was sent to us.
	if err := within(finishDraining, s.udp.Drain); err != nil {
		logger.Warn("some datagrams may be unread", "error", err)
	}
	// Commit, seal, and ship what can be shipped in time.
	errs = append(errs, within(finishSealing, s.log.Seal))
	remaining := 0
	errs = append(errs, within(cfg.Shutdown.Grace, func(ctx context.Context) error {
		remaining = s.ship.Drain(ctx)
		return nil
	}))
	s.stopShipping()
	<-s.shipped
	errs = append(errs, s.log.Close(), within(time.Second, s.office.Shutdown))

	g := s.log.Ledger()
	var received, rejected uint64
	for _, d := range g.Door {
		received += d.Received
		rejected += d.Received - d.Accepted
	}
	logger.Info("stopped", "received", received, "rejected", rejected, "recovered", g.Recovered,
		"shipped", g.Shipped, "pending", g.Pending, "segments_left", remaining)
	return errors.Join(errs...)
}

func reasons(log *wal.Log, stopping *atomic.Bool) (why []string) {
	if stopping.Load() {
		why = append(why, "stopping")
	}
	if err := log.Full(); err != nil && !errors.Is(err, wal.ErrClosed) {
		why = append(why, err.Error())
	}
	return why
}
