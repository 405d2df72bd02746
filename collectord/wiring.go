package main

import (
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"

	"collectord/collectord/admin"
	"collectord/collectord/auth"
	"collectord/collectord/httpserver"
	"collectord/collectord/udpserver"
	"collectord/config"
	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/wal"
)

func walOptions(cfg *config.Config, logger *slog.Logger) wal.Options {
	sync := wal.SyncAlways
	if cfg.WAL.Sync == "interval" {
		sync = wal.SyncInterval
	}
	l := walLimits(cfg)
	return wal.Options{
		Node:         cfg.Node,
		Sync:         sync,
		SyncInterval: cfg.WAL.SyncInterval,
		SegmentSize:  cfg.WAL.SegmentSize,
		SealAfter:    l.SealAfter, SealSmallAfter: l.SealSmallAfter,
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
		SealAfter: cfg.WAL.SealAfter, SealSmallAfter: cfg.WAL.SealSmallAfter,
		MaxBytes:      cfg.WAL.MaxBytes,
		MinFree:       cfg.WAL.MinFree,
		WhenFull:      whenFull,
		CommitTimeout: cfg.WAL.CommitTimeout,
		ProbeMin:      cfg.WAL.ProbeMin,
		ProbeMax:      cfg.WAL.ProbeMax,
		QueueBytes:    cfg.UDP.Queue,
	}
}

func httpLimits(cfg *config.Config, fds descriptorUse) httpserver.Limits {
	l := httpserver.Limits{
		MaxRecord:      int(cfg.HTTP.MaxRecord),
		MaxConnections: cfg.HTTP.MaxConnections, MaxTLSConnections: cfg.HTTP.MaxTLSConnections,
		HeaderTimeout: cfg.HTTP.HeaderTimeout,
		BodyRate:      int(cfg.HTTP.BodyRate),
		BodyGrace:     cfg.HTTP.BodyGrace,
		AnswerTimeout: cfg.HTTP.AnswerTimeout,
		IdleTimeout:   cfg.HTTP.IdleTimeout,
		Rate:          float64(cfg.HTTP.Rate),
		Burst:         cfg.HTTP.Burst,
	}
	fds.limitConnections(&l, cfg)
	return l
}

func shipperLimits(cfg *config.Config) shipper.Limits {
	keep := cfg.Shipper.Keep
	if isFolder(cfg) { // a folder syncs an object before it confirms it
		keep = 0
	}
	return shipper.Limits{
		Keep:              keep,
		Concurrency:       cfg.Shipper.Concurrency,
		Bandwidth:         cfg.Shipper.Bandwidth,
		StallTimeout:      cfg.Shipper.StallTimeout,
		Heartbeat:         cfg.Shipper.Heartbeat,
		RetryMin:          cfg.Shipper.RetryMin,
		RetryMax:          cfg.Shipper.RetryMax,
		RetryMaxPermanent: cfg.Shipper.RetryMaxPermanent,
	}
}

func shipperOptions(cfg *config.Config, logger *slog.Logger) shipper.Options {
	return shipper.Options{
		SpoolDir: filepath.Join(cfg.DataDir, "spool"),
		Reserve:  true,
		Limits:   shipperLimits(cfg),
		Level:    cfg.Shipper.Level,
		Version:  version,
		Logger:   logger,
	}
}

func httpOptions(cfg *config.Config, fds descriptorUse, policy auth.Policy, logger *slog.Logger) httpserver.Options {
	return httpserver.Options{
		Limits:            httpLimits(cfg, fds),
		Policy:            policy,
		MaxHeader:         int(cfg.HTTP.MaxHeader),
		MaxBody:           int(cfg.HTTP.MaxBody),
		MaxDecoded:        int(cfg.HTTP.MaxDecoded),
		MaxRecords:        cfg.HTTP.MaxRecords,
		MaxInFlight:       int(cfg.HTTP.MaxInFlight),
		IdempotencyWindow: cfg.HTTP.IdempotencyWindow,
		IdempotencyKeys:   cfg.HTTP.IdempotencyKeys,
		ProblemBase:       cfg.HTTP.ProblemBase,
		Logger:            logger,
	}
}

func udpLimits(cfg *config.Config) udpserver.Limits {
	return udpserver.Limits{Allow: cfg.UDP.Allow, MaxRecord: int(cfg.HTTP.MaxRecord)}
}

func udpOptions(cfg *config.Config, logger *slog.Logger) udpserver.Options {
	return udpserver.Options{
		Limits:        udpLimits(cfg),
		MaxDatagram:   int(cfg.UDP.MaxDatagram),
		Sockets:       cfg.UDP.Sockets,
		ReceiveBuffer: int(cfg.UDP.ReceiveBuffer),
		Logger:        logger,
	}
}

func isFolder(cfg *config.Config) bool { return strings.HasPrefix(cfg.Shipper.Destination, "file:") }

// bucketFolder returns the path of the destination folder.
func bucketFolder(cfg *config.Config) string {
	u, err := url.Parse(cfg.Shipper.Destination)
	if err != nil { // can't happen: the configuration was checked
		return ""
	}
	return u.Path
}

// openStore opens the destination for writing, as the owner of the log.
func openStore(cfg *config.Config, log *wal.Log, logger *slog.Logger) (bucket.Store, error) {
	d := destination(cfg, logger)
	logID, _ := log.Identity()
	d.Owner = logIDText(logID)
	return bucket.Open(d)
}

// openStoreToRead opens the destination for reading only.
func openStoreToRead(cfg *config.Config) (bucket.Store, error) {
	return bucket.OpenToRead(destinationToRead(cfg))
}

func destinationToRead(cfg *config.Config) bucket.Destination {
	return destination(cfg, slog.New(slog.DiscardHandler))
}

func destination(cfg *config.Config, logger *slog.Logger) bucket.Destination {
	return bucket.Destination{
		URL: cfg.Shipper.Destination,
		S3: bucket.S3Options{
			Endpoint:        cfg.Shipper.S3.Endpoint,
			Region:          cfg.Shipper.S3.Region,
			PathStyle:       cfg.Shipper.S3.PathStyle,
			CredentialsFile: cfg.Shipper.S3.CredentialsFile,
			CAFile:          cfg.Shipper.S3.CAFile,
			Checksum:        cfg.Shipper.S3.Checksum,
			SSE:             cfg.Shipper.S3.SSE,
			SSEUnconfirmed:  cfg.Shipper.S3.SSEUnconfirmed,
			StorageClass:    cfg.Shipper.S3.StorageClass,
			Proof:           cfg.Shipper.S3.Proof,
			Logger:          logger,
		},
	}
}

func snapshot(log *wal.Log, ship *shipper.Shipper, web *httpserver.Server, udp *udpserver.Server, reload *reloader) admin.Snapshot {
	datagrams, size := udp.Datagrams()
	st := ship.Stats()
	logID, _ := log.Identity()
	return admin.Snapshot{
		Ledger: log.Ledger(),
		Log:    log.Stats(),
		HTTP: admin.HTTPSnapshot{
			Requests: web.Requests(), Seconds: web.Latencies(), Connections: web.Connections(),
			TLSConnections: web.TLSConnections(), MaxTLSConnections: web.MaxTLSConnections(),
			MaxConnections: web.MaxConnections(), ClosedForRoom: web.ClosedForRoom(), Refused: web.TurnedAway(),
			ReadsDelayed: web.ReadsDelayed(), ClosedForMemory: web.ClosedForMemory(), AcceptsDelayed: web.AcceptsDelayed(), LoopTurns: web.LoopTurns(),
			HandshakeFailures: web.HandshakeFailures(), CertificateExpires: certificateExpiry(web.Policy()),
		},
		UDP:     admin.UDPSnapshot{Datagrams: datagrams, Bytes: size, KernelDrops: udp.KernelDrops(), ReceiveBuffer: udp.ReceiveBuffer(), Batches: udp.Batches()},
		Shipper: admin.ShipperSnapshot(st),
		Clients: web.Clients(),
		Reload:  reload.snapshot(),
		LogID:   logIDText(logID),
	}
}

// logIDText formats a log id as in the names of objects. It returns "" for 0, which means
// that the log has not started.
func logIDText(logID uint64) string {
	if logID == 0 {
		return ""
	}
	return bucket.HexID(logID)
}
