package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"time"

	"collectord/collectord/admin"
	"collectord/collectord/ingest"
	"collectord/config"
	"collectord/shipper"
	"collectord/wal"
)

// listeners are the sockets of all doors.
type listeners struct {
	http, admin []net.Listener
	udp         []*net.UDPConn
	leaving     []*passedSocket // for datagrams, and not configured any more
	passed      int             // of the others, not bound by this process
	kept        bool            // somebody keeps them open when this process ends
	givenBack   bool            // sockets with connections, which may still be open for a moment
	taken       map[config.Address][]*passedSocket
	store       *socketStore
}

// listen takes the sockets that were passed to the process and binds the rest of
// what is configured: all of it, or nothing. What is not configured any more it
// gives back before, since it may be in the way.
func listen(cfg *config.Config, passed []*passedSocket, store *socketStore, logger *slog.Logger) (_ *listeners, err error) {
	l := &listeners{store: store, taken: map[config.Address][]*passedSocket{}}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	options := udpOptions(cfg, logger)
	options.ReceiveBuffer /= max(1, len(cfg.UDP.Listen))
	for _, a := range slices.Concat(cfg.HTTP.Listen, cfg.Admin.Listen) {
		l.taken[a] = takeSockets(&passed, a, 1)
	}
	for _, a := range cfg.UDP.Listen {
		l.taken[a] = takeSockets(&passed, a, options.SocketsOfAddress())
	}
	l.leave(passed, logger)
	if l.http, err = l.streams(cfg.HTTP.Listen, socketAccess{cfg.HTTP.SocketMode, cfg.HTTP.SocketGroup}); err != nil {
		return nil, fmt.Errorf("http.listen: %w", err)
	}
	if l.admin, err = l.streams(cfg.Admin.Listen, socketAccess{0o600, -1}); err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	for _, a := range cfg.UDP.Listen {
		conns, err := l.datagrams(a, options)
		l.udp = append(l.udp, conns...)
		if err != nil {
			return nil, fmt.Errorf("udp.listen: %w", err)
		}
	}
	l.kept = l.kept || l.passed > 0
	return l, nil
}

// leave gives back what was passed and is not configured. What takes datagrams
// may hold some for the daemon before, and is read first.
func (l *listeners) leave(passed []*passedSocket, logger *slog.Logger) {
	for _, s := range passed {
		switch {
		case !s.stored():
			logger.Warn("a socket that was passed to the daemon is not used: no listen key has its address", "address", s.addr, "name", s.name)
		case s.isStream():
			logger.Info("a socket of the daemon before is not configured any more", "address", s.addr)
			l.store.remove(s.name)
			l.givenBack = true
		default:
			l.leaving = append(l.leaving, s)
			continue
		}
		_ = s.file.Close()
	}
}

// streams returns what it has so far also if it fails.
func (l *listeners) streams(addrs []config.Address, access socketAccess) (all []net.Listener, err error) {
	for _, a := range addrs {
		for _, s := range l.taken[a] {
			ln, err := s.listener(access)
			if err != nil {
				return all, err
			}
			all = append(all, ln)
			l.passed++
		}
		if len(l.taken[a]) > 0 {
			continue
		}
		ln, err := l.bind(a, access)
		if err != nil {
			return all, err
		}
		all = append(all, ln)
		if l.store.keep(ln.(syscall.Conn)) { //nolint:forcetypeassert // TCP and unix sockets are
			l.kept = true
			if ln, ok := ln.(*net.UnixListener); ok {
				ln.SetUnlinkOnClose(false)
			}
		}
	}
	return all, nil
}

// How long it may take until the service manager has closed what it was given back.
const (
	closedWithin = 2 * time.Second
	closedLook   = 20 * time.Millisecond
)

func (l *listeners) bind(a config.Address, access socketAccess) (net.Listener, error) {
	if a.Network == "unix" {
		return listenUnix(a.Path, access)
	}
	for began := time.Now(); ; {
		ln, err := net.Listen(a.Network, a.IP.String())
		if !l.givenBack || !errors.Is(err, syscall.EADDRINUSE) || time.Since(began) > closedWithin {
			return ln, err
		}
		<-time.After(closedLook)
	}
}

// datagrams returns what it has so far also if it fails.
func (l *listeners) datagrams(a config.Address, o ingest.UDPOptions) (all []*net.UDPConn, err error) {
	wanted := o.SocketsOfAddress()
	for _, s := range l.taken[a] {
		c, err := s.packetConn()
		if err != nil {
			return all, err
		}
		all = append(all, c)
		l.passed++
		if !s.stored() { // how many there are is the unit's business
			wanted = len(all)
		}
	}
	if len(all) == 0 && !l.leaves(a.IP.Port()) {
		// SO_REUSEPORT would share the port with another daemon in silence.
		if err := probeUDP(a); err != nil {
			return nil, err
		}
	}
	if o.Sockets = wanted - len(all); o.Sockets <= 0 {
		return all, nil
	}
	bound, err := ingest.ListenUDP(a.IP, o)
	for _, c := range bound {
		l.kept = l.store.keep(c) || l.kept
	}
	return append(all, bound...), err
}

// leaves reports whether the port is one of a socket that is still to be read:
// that is in nobody's way, and would be taken for another daemon's.
func (l *listeners) leaves(port uint16) bool {
	return slices.ContainsFunc(l.leaving, func(s *passedSocket) bool { return s.addr.IP.Port() == port })
}

func probeUDP(a config.Address) error {
	network := "udp4"
	if a.IP.Addr().Is6() {
		network = "udp6" // for udp, 0.0.0.0 and [::] are the same
	}
	c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(a.IP))
	if err != nil {
		return err
	}
	return c.Close()
}

func (l *listeners) close() {
	for _, ln := range slices.Concat(l.http, l.admin) {
		_ = ln.Close() // closed already where a door took it over
	}
	for _, c := range l.udp {
		_ = c.Close()
	}
	for _, s := range l.leaving {
		_ = s.file.Close()
	}
}

func walOptions(cfg *config.Config, logger *slog.Logger) wal.Options {
	sync := wal.SyncAlways
	if cfg.WAL.Sync == "interval" {
		sync = wal.SyncInterval
	}
	l := walLimits(cfg)
	return wal.Options{
		Node:          cfg.Node,
		Sync:          sync,
		SyncInterval:  cfg.WAL.SyncInterval,
		SegmentSize:   cfg.WAL.SegmentSize,
		SealAfter:     l.SealAfter,
		MaxBytes:      l.MaxBytes,
		MinFree:       l.MinFree,
		WhenFull:      l.WhenFull,
		CommitTimeout: l.CommitTimeout,
		ProbeMin:      l.ProbeMin,
		ProbeMax:      l.ProbeMax,
		QueueBytes:    l.QueueBytes,
		Logger:        logger,
	}
}

func walLimits(cfg *config.Config) wal.Limits {
	whenFull := wal.Reject
	if cfg.WAL.WhenFull == "drop_oldest" {
		whenFull = wal.DropOldest
	}
	return wal.Limits{
		SealAfter:     cfg.WAL.SealAfter,
		MaxBytes:      cfg.WAL.MaxBytes,
		MinFree:       cfg.WAL.MinFree,
		WhenFull:      whenFull,
		CommitTimeout: cfg.WAL.CommitTimeout,
		ProbeMin:      cfg.WAL.ProbeMin,
		ProbeMax:      cfg.WAL.ProbeMax,
		QueueBytes:    cfg.UDP.Queue,
	}
}

func httpLimits(cfg *config.Config) ingest.HTTPLimits {
	return ingest.HTTPLimits{
		MaxRecord:      int(cfg.HTTP.MaxRecord),
		MaxConnections: cfg.HTTP.MaxConnections,
		HeaderTimeout:  cfg.HTTP.HeaderTimeout,
		BodyRate:       int(cfg.HTTP.BodyRate),
		BodyGrace:      cfg.HTTP.BodyGrace,
		AnswerTimeout:  cfg.HTTP.AnswerTimeout,
		IdleTimeout:    cfg.HTTP.IdleTimeout,
		Rate:           float64(cfg.HTTP.Rate),
		Burst:          cfg.HTTP.Burst,
	}
}

func shipperLimits(cfg *config.Config) shipper.Limits {
	return shipper.Limits{
		Concurrency:       cfg.Shipper.Concurrency,
		Bandwidth:         cfg.Shipper.Bandwidth,
		StallTimeout:      cfg.Shipper.StallTimeout,
		RetryMin:          cfg.Shipper.RetryMin,
		RetryMax:          cfg.Shipper.RetryMax,
		RetryMaxPermanent: cfg.Shipper.RetryMaxPermanent,
	}
}

func httpOptions(cfg *config.Config, who ingest.Identity, logger *slog.Logger) ingest.HTTPOptions {
	return ingest.HTTPOptions{
		Limits:            httpLimits(cfg),
		Identity:          who,
		MaxHeader:         int(cfg.HTTP.MaxHeader),
		MaxBody:           int(cfg.HTTP.MaxBody),
		MaxDecoded:        int(cfg.HTTP.MaxDecoded),
		MaxRecords:        cfg.HTTP.MaxRecords,
		MaxInFlight:       int(cfg.HTTP.MaxInFlight),
		IdempotencyWindow: cfg.HTTP.IdempotencyWindow,
		IdempotencyKeys:   cfg.HTTP.IdempotencyKeys,
		Logger:            logger,
	}
}

func udpLimits(cfg *config.Config) ingest.UDPLimits {
	return ingest.UDPLimits{Allow: cfg.UDP.Allow, MaxRecord: int(cfg.HTTP.MaxRecord)}
}

func udpOptions(cfg *config.Config, logger *slog.Logger) ingest.UDPOptions {
	return ingest.UDPOptions{
		Limits:        udpLimits(cfg),
		MaxDatagram:   int(cfg.UDP.MaxDatagram),
		Sockets:       cfg.UDP.Sockets,
		ReceiveBuffer: int(cfg.UDP.ReceiveBuffer),
		Logger:        logger,
	}
}

func openStore(cfg *config.Config, logger *slog.Logger) (shipper.Store, error) {
	return shipper.OpenStore(destination(cfg, logger))
}

// openStoreToRead is for commands that look at what is there.
func openStoreToRead(cfg *config.Config) (shipper.Store, error) {
	return shipper.OpenStoreToRead(destination(cfg, slog.New(slog.DiscardHandler)))
}

func destination(cfg *config.Config, logger *slog.Logger) shipper.Destination {
	return shipper.Destination{
		URL: cfg.Shipper.Destination,
		S3: shipper.S3Options{
			Endpoint:        cfg.Shipper.S3.Endpoint,
			Region:          cfg.Shipper.S3.Region,
			PathStyle:       cfg.Shipper.S3.PathStyle,
			CredentialsFile: cfg.Shipper.S3.CredentialsFile,
			CAFile:          cfg.Shipper.S3.CAFile,
			Checksum:        cfg.Shipper.S3.Checksum,
			SSE:             cfg.Shipper.S3.SSE,
			StorageClass:    cfg.Shipper.S3.StorageClass,
			Proof:           cfg.Shipper.S3.Proof,
			Logger:          logger,
		},
	}
}

func snapshot(log *wal.Log, ship *shipper.Shipper, web *ingest.HTTP, udp *ingest.UDP, reload *reloader) admin.Snapshot {
	datagrams, size := udp.Datagrams()
	st := ship.Stats()
	return admin.Snapshot{
		Ledger: log.Ledger(),
		Log:    log.Stats(),
		HTTP: admin.HTTPSnapshot{
			Requests: web.Requests(), Seconds: web.Seconds(), Connections: web.Connections(),
			HandshakeFailures: web.HandshakeFailures(), CertificateExpires: expires(web.Identity()),
		},
		UDP:     admin.UDPSnapshot{Datagrams: datagrams, Bytes: size, KernelDrops: udp.KernelDrops(), ReceiveBuffer: udp.ReceiveBuffer(), Batches: udp.Batches()},
		Shipper: admin.ShipperSnapshot(st),
		Reload:  reload.snapshot(),
	}
}
