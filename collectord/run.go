package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"collectord/collectord/admin"
	"collectord/collectord/httpserver"
	"collectord/collectord/udpserver"
	"collectord/config"
	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/wal"
)

func runCommand(caught *signals) *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Start the daemon",
		Long: `Start the daemon, in the foreground. It logs to standard error. On admin.listen it serves metrics, readiness
with its reasons, and a status page.

SIGTERM and SIGINT stop the daemon; nothing that was acknowledged is lost. A second signal ends it at once. On SIGHUP the
daemon reads the configuration again. On SIGUSR1 it seals and ships the active segment. Each key of the configuration can
also be set by a variable (http.listen: COLLECTORD_HTTP_LISTEN), and common keys by a flag; collectord config example
explains all keys. If root starts the daemon, it runs as the owner of data_dir.`,
		Example: `  collectord run
  collectord run --data-dir /srv/collectord --destination s3://usages/clinic-7 --s3-endpoint https://minio.example:9000
  collectord run --config collectord.yaml --log-level debug`,
		GroupID:    groupDaemon,
		SuggestFor: []string{"start", "daemon", "serve"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			// If the reader of the log closes the pipe, only the write fails. The
			// daemon must continue.
			signal.Ignore(syscall.SIGPIPE)
			// A configuration file that existed at the start must also exist at a
			// reload.
			src := source(cmd)
			src.Path = src.File()
			standardErr := ownStandardError() // root can open its pipe again, another user can't
			owner, staysRoot := becomeOwnerToRun(src)
			load := func() (*plan, error) { return newPlan(src) }
			p, err := load()
			if wrong := (*configError)(nil); errors.As(err, &wrong) && owner != "" {
				wrong.warnings = append(wrong.warnings, "root has started the daemon, which runs as "+owner+", the owner of data_dir")
			}
			if err != nil {
				return err
			}
			daemonLog, err := newDaemonLogger(p.cfg.Log, standardErr)
			if err != nil {
				return err
			}
			defer daemonLog.close()
			caught.setLastActions(daemonLog, "the start was not complete", func() bool { return false })
			slog.SetDefault(daemonLog.Logger) // for messages of the standard library
			if owner != "" {
				daemonLog.Info("the daemon runs as the owner of data_dir, and no longer as root", "user", owner)
			}
			if staysRoot != nil {
				daemonLog.Warn("the daemon runs as root, and the owner of data_dir may be unable to read what it writes (start it as that user, or chown data_dir)", "error", staysRoot)
			}
			for _, w := range p.warnings {
				daemonLog.Warn(w)
			}
			reload := newReloader(p.cfg, load, daemonLog.Logger)
			reload.register(daemonLog.setLevel)
			return run(cmd.Context(), reload, p, src.Path, daemonLog, caught)
		},
	}
	config.AddFlags(c.Flags())
	return c
}

// run starts the daemon, and returns when it has stopped:
//
//	POST /api/usages -> httpserver.Server --Append--.
//	                                           >-- wal.Log --Sealed--> shipper --Put--> bucket
//	datagrams       -> udpserver.Server --Enqueue---'                             `--Remove--> wal.Log
//
//	GET /metrics    -> admin      (reads from all of them)
//
// Errors that an operator must correct, such as a port in use, end the start before
// the daemon stores or ships usages. Only the HTTP and admin servers run before that,
// to report that the daemon is starting. Usages received meanwhile wait for the log.
func run(ctx context.Context, reload *reloader, p *plan, file string, daemonLog *daemonLogger, caught *signals) error {
	began := time.Now()
	logger := daemonLog.Logger
	cfg := p.cfg
	manager := notifier(os.Getenv("NOTIFY_SOCKET"))

	// Sockets come first: a second daemon with the same configuration fails at its port
	// before it touches the log.
	passed := passedSockets(logger)
	sockets := newSocketStore(manager, passed, logger)
	started := false
	defer func() {
		if !started {
			sockets.removeStreams()
		}
	}()
	listening, err := listen(cfg, passed, sockets, logger)
	if err != nil {
		return err
	}
	defer listening.close()
	stopTimeout := func() time.Duration { return stopLimit(reload.config().Shutdown) }
	caught.stopLimit.Store(&stopTimeout)
	serveErrors := make(chan error, len(listening.http)+len(listening.admin))
	state := &health{reload: reload, loggerCounts: daemonLog.queue.snapshot, troubles: daemonLog.troubles.states}
	monitor := admin.NewMonitor(admin.MonitorOptions{
		Version: version, Node: cfg.Node, Began: began,
		Snapshot: state.snapshot, Ready: state.notReady, Troubles: daemonLog.troubles.openTroubles, PutAside: state.putAside,
	})
	fds := countDescriptors(len(listening.http))
	adminServer := admin.New(admin.Options{
		Version: version, Snapshot: state.snapshot, Ready: state.notReady, Live: state.stuckLoops, Status: monitor.Status, Page: monitor.Page,
		MaxConnections: fds.maxAdmin(openFilesLimit()),
	})
	for _, ln := range listening.admin {
		go func() { serveErrors <- adminServer.Serve(ln) }()
	}
	pending := newPendingLog()
	webOptions := httpOptions(cfg, fds, p.policy, logger)
	webOptions.AdminServes, webOptions.AdminAddresses = admin.Serves, addressesOf(listening.admin)
	groups, group := groupMemory()
	webOptions.RequestBuffer = requestBuffer(cfg, cfg.HTTP.MaxConnections, group.Limit)
	web := httpserver.New(pending, webOptions)
	fds.warnIfTooFew(cfg, web.MaxConnections(), logger)
	warnOfGroupMemory(cfg, web.MaxConnections(), group.Limit, logger)
	debug.SetMemoryLimit(goMemoryLimit(cfg, web.MaxConnections(), group.Limit))
	defer web.StopListening()
	groupCtx, stopGroup := context.WithCancel(ctx)
	defer stopGroup()
	watch := &groupWatch{memory: groups.Memory, web: web, unread: datagramBuffers(cfg), logger: logger}
	go watch.run(groupCtx)
	for _, ln := range listening.http {
		go func() { serveErrors <- web.Serve(ln) }()
	}
	log, err := wal.Open(cfg.DataDir, walOptions(cfg, logger))
	if err != nil {
		return withInUseAdvice(err, "stop that process, or give this daemon a data_dir of its own (--data-dir)")
	}
	store, err := openStore(cfg, log, logger)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	shipOptions := shipperOptions(cfg, logger)
	shipOptions.AddHostState = func(h *bucket.Heartbeat) { describeHost(h, daemonLog.troubles.openTroubles(), web.Clients()) }
	if os.Getenv("GOMAXPROCS") == "" {
		shipOptions.OnCompress = newProcLimit().raise
	}
	ship, err := shipper.New(log, store, shipOptions)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	options := udpOptions(cfg, logger)
	options.KeptOpen, options.Inherited = listening.kept, listening.passed > 0
	udp, err := udpserver.New(log, listening.udp, options)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	watch.udp.Store(udp)

	reload.register(reloadPolicy(web, logger))
	reload.register(func(next *plan) {
		log.SetLimits(walLimits(next.cfg))
		ship.SetLimits(shipperLimits(next.cfg))
		web.SetLimits(httpLimits(next.cfg, fds))
		fds.warnIfTooFew(next.cfg, web.MaxConnections(), logger)
		debug.SetMemoryLimit(goMemoryLimit(next.cfg, web.MaxConnections(), group.Limit))
		udp.SetLimits(udpLimits(next.cfg))
	})

	// The start can no longer fail.
	started = true
	summary := func() []any { return ledgerAttrs(log.Ledger(), began) }
	caught.setLastActions(daemonLog, "what was acknowledged is in the log", func() bool { return newLossCounter(log)() > 0 }, summary)
	shipCtx, stopShipping := context.WithCancel(context.WithoutCancel(ctx))
	shipped := make(chan struct{})
	go func() { defer close(shipped); ship.Run(shipCtx) }()
	udp.Start()
	pending.open(log)
	drainRetired(listening, log, cfg, logger)
	state.parts.Store(&parts{log, ship, web, udp})
	logStart(logger, cfg, file, store.String(), listening, log, p.policy)
	logNotifyError(logger, manager.ready())
	go warnOfArchive(ctx, cfg, logger)
	watchCtx, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	clock := newClockWatch(log, ship, logger)
	state.clock.Store(clock)
	go clock.run(watchCtx, cfg.DataDir)
	go checkStorage(watchCtx, store, cfg.Shipper.StallTimeout, logger)
	ended := make(chan struct{})
	defer close(ended)
	go (&reporter{
		manager: manager, watchdog: watchdogTimeout(os.Getpid()), alive: state.stuckLoops,
		line: monitor.Line, changed: daemonLog.troubles.troubles.changed, logger: logger,
	}).run(ended)
	go monitor.Run(ended)

	serveCtx, stopServing := context.WithCancel(ctx)
	defer stopServing()
	go caught.serve(serveCtx, func() { sealNow(log, reload.config().Shutdown.Seal, logger) }, func() {
		logNotifyError(logger, manager.reloading())
		reload.reload()
		if serveCtx.Err() == nil { // ready would revoke the notice of the stop
			logNotifyError(logger, manager.ready())
		}
	})

	var caughtSignal os.Signal
	var cause error
	select {
	case caughtSignal = <-caught.stop:
	case <-ctx.Done():
	case cause = <-serveErrors:
	}
	state.stopping.Store(true)
	stopServing()
	lost := newLossCounter(log)
	caught.setLastActions(daemonLog, "what was acknowledged is in the log", func() bool { return lost() > 0 }, summary)
	switch {
	case caughtSignal != nil:
		logger.Info("stopping", "signal", caughtSignal.String())
	case cause != nil:
		logger.Error("stopping", "error", cause)
	}
	logNotifyError(logger, manager.stopping())
	shutDown(reload.config().Shutdown, logger, stopOrder{web, udp, log, ship, adminServer, stopShipping, shipped})
	logger.Info("stopped", summary()...)
	if n := lost(); n > 0 {
		err = fmt.Errorf("the stop lost %s: the log could not be written (the log lines above say why)", plural(int(n), "usage"))
	}
	return errors.Join(cause, err)
}

// drainRetired reads the sockets whose addresses are no longer configured, and removes
// them from the store. Their datagrams arrived while the addresses were configured.
func drainRetired(listening *listeners, log *wal.Log, cfg *config.Config, logger *slog.Logger) {
	var conns []*net.UDPConn
	for _, s := range listening.retired {
		c, err := s.packetConn()
		if err != nil {
			logger.Error("can't read a socket that is no longer configured", "address", s.String(), "error", err)
			continue
		}
		conns = append(conns, c)
	}
	if len(conns) == 0 {
		return
	}
	options := udpOptions(cfg, logger)
	options.Inherited = true
	server, err := udpserver.New(log, conns, options)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), cfg.Shutdown.Datagrams)
		defer cancel()
		err = server.Drain(ctx)
	}
	for _, s := range listening.retired {
		listening.store.remove(s.name)
	}
	if err != nil {
		logger.Error("can't read sockets that are no longer configured", "error", err)
		return
	}
	datagrams, _ := server.Datagrams()
	logger.Info("read what was left in sockets that are no longer configured", "sockets", len(conns), "datagrams", datagrams)
}

// sealNow seals the active segment, so that it is shipped at once.
func sealNow(log *wal.Log, within time.Duration, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := log.Seal(ctx); err != nil {
		logger.Error("can't seal the active segment", "signal", syscall.SIGUSR1.String(), "error", err)
		return
	}
	logger.Info("sealed the active segment", "signal", syscall.SIGUSR1.String())
}
