package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"

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
}

// listen binds everything that is configured, or nothing.
func listen(cfg *config.Config, logger *slog.Logger) (_ *listeners, err error) {
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.http, err = listenStreams("http.listen", cfg.HTTP.Listen); err != nil {
		return nil, err
	}
	if l.admin, err = listenStreams("admin.listen", cfg.Admin.Listen); err != nil {
		return nil, err
	}
	for _, a := range cfg.UDP.Listen {
		// SO_REUSEPORT would share the port with another daemon in silence.
		if err := probeUDP(a); err != nil {
			return nil, fmt.Errorf("udp.listen: %w", err)
		}
		conns, err := ingest.ListenUDP(a.IP, udpOptions(cfg, logger))
		if err != nil {
			return nil, fmt.Errorf("udp.listen: %w", err)
		}
		l.udp = append(l.udp, conns...)
	}
	return l, nil
}

func probeUDP(a config.Address) error {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a.IP))
	if err != nil {
		return err
	}
	return c.Close()
}

func listenStreams(key string, addrs []config.Address) (all []net.Listener, err error) {
	for _, a := range addrs {
		var ln net.Listener
		if a.Network == "unix" {
			ln, err = listenUnix(a.Path)
		} else {
			ln, err = net.Listen(a.Network, a.IP.String())
		}
		if err != nil {
			for _, open := range all {
				err = errors.Join(err, open.Close())
			}
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all = append(all, ln)
	}
	return all, nil
}

// listenUnix replaces the socket that an ended process left, not one in use.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("unix socket %s: another process listens on it", path), c.Close())
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", path)
}

func (l *listeners) closeHTTP() {
	for _, ln := range l.http {
		_ = ln.Close() // closed once more by its server
	}
}

func (l *listeners) close() {
	l.closeHTTP()
	for _, ln := range l.admin {
		_ = ln.Close()
	}
	for _, c := range l.udp {
		_ = c.Close()
	}
}

func walOptions(cfg *config.Config, logger *slog.Logger) wal.Options {
	sync := wal.SyncAlways
	if cfg.WAL.Sync == "interval" {
		sync = wal.SyncInterval
	}
	whenFull := wal.Reject
	if cfg.WAL.WhenFull == "drop_oldest" {
		whenFull = wal.DropOldest
	}
	return wal.Options{
		Node:          cfg.Node,
		Sync:          sync,
		SyncInterval:  cfg.WAL.SyncInterval,
		SegmentSize:   cfg.WAL.SegmentSize,
		SealAfter:     cfg.WAL.SealAfter,
		MaxBytes:      cfg.WAL.MaxBytes,
		MinFree:       cfg.WAL.MinFree,
		WhenFull:      whenFull,
		CommitTimeout: cfg.WAL.CommitTimeout,
		QueueBytes:    cfg.UDP.Queue,
		Logger:        logger,
	}
}

func httpOptions(cfg *config.Config, logger *slog.Logger) ingest.HTTPOptions {
	return ingest.HTTPOptions{
		MaxBody:           int(cfg.HTTP.MaxBody),
		MaxDecoded:        int(cfg.HTTP.MaxDecoded),
		MaxRecord:         int(cfg.HTTP.MaxRecord),
		MaxRecords:        cfg.HTTP.MaxRecords,
		MaxInFlight:       int(cfg.HTTP.MaxInFlight),
		MaxConnections:    cfg.HTTP.MaxConnections,
		HeaderTimeout:     cfg.HTTP.HeaderTimeout,
		IdleTimeout:       cfg.HTTP.IdleTimeout,
		Logger:            logger,
		IdempotencyWindow: cfg.HTTP.IdempotencyWindow,
		IdempotencyKeys:   cfg.HTTP.IdempotencyKeys,
	}
}

func udpOptions(cfg *config.Config, logger *slog.Logger) ingest.UDPOptions {
	return ingest.UDPOptions{
		Allow:         cfg.UDP.Allow,
		Sockets:       cfg.UDP.Sockets,
		ReceiveBuffer: int(cfg.UDP.ReceiveBuffer) / max(1, len(cfg.UDP.Listen)),
		Logger:        logger,
	}
}

func openStore(cfg *config.Config, logger *slog.Logger) (shipper.Store, error) {
	return shipper.OpenStore(shipper.Destination{
		URL: cfg.Shipper.Destination,
		S3: shipper.S3Options{
			Endpoint:        cfg.Shipper.S3.Endpoint,
			Region:          cfg.Shipper.S3.Region,
			PathStyle:       cfg.Shipper.S3.PathStyle,
			CredentialsFile: cfg.Shipper.S3.CredentialsFile,
			CAFile:          cfg.Shipper.S3.CAFile,
			Checksum:        cfg.Shipper.S3.Checksum,
			Logger:          logger,
		},
	})
}

// newLogger writes text for people at a terminal and JSON for everyone else.
func newLogger(cfg config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, err
	}
	text := cfg.Format == "text"
	if cfg.Format == "auto" {
		info, err := os.Stderr.Stat()
		text = err == nil && info.Mode()&fs.ModeCharDevice != 0
	}
	if text {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})), nil
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})), nil
}

func snapshot(log *wal.Log, ship *shipper.Shipper, web *ingest.HTTP, udp *ingest.UDP) admin.Snapshot {
	datagrams, size := udp.Datagrams()
	st := ship.Stats()
	return admin.Snapshot{
		Ledger:  log.Ledger(),
		Log:     log.Stats(),
		HTTP:    admin.HTTPSnapshot{Requests: web.Requests(), Connections: web.Connections()},
		UDP:     admin.UDPSnapshot{Datagrams: datagrams, Bytes: size, KernelDrops: udp.KernelDrops()},
		Shipper: admin.ShipperSnapshot(st),
	}
}
