package main

import (
	"log/slog"
	"os"
	"syscall"

	"collectord/collectord/admin"
	"collectord/collectord/httpserver"
	"collectord/config"
)

// Numbers of file descriptors that clients must leave free. Without them the log could
// open no segment, and would stop for all clients.
const (
	assumedAtStart       = 32 // open at the start, if they can't be counted
	ownDescriptors       = 32 // segments and notes of the log, configuration files, name lookups
	descriptorsPerUpload = 8  // a segment, its spool file, connections or files of the storage
	descriptorsPerAdmin  = 2  // the connection, and a file that a scrape reads
	adminDivisor         = 16 // admin connections use at most 1/adminDivisor of all descriptors
	minAdmin             = 4
	minForClients        = 16 // takes precedence over the reserve: a daemon without clients is useless
	acceptedPerListener  = 1  // each HTTP listener may have accepted one more connection
)

// descriptorUse describes how the process uses its file descriptors.
type descriptorUse struct {
	atStart   int // open before the first client connects
	listeners int // HTTP listeners
}

// countDescriptors counts the open descriptors. Call it after all sockets are bound,
// and before the first connection is accepted.
func countDescriptors(listeners int) descriptorUse {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return descriptorUse{assumedAtStart, listeners} // /proc may not be mounted
	}
	return descriptorUse{len(open), listeners}
}

// openFilesLimit returns the soft limit RLIMIT_NOFILE. The Go runtime raises it to the hard
// limit at the start of the process.
func openFilesLimit() int {
	var limit syscall.Rlimit
	const unlimited = 1 << 30
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > unlimited {
		return unlimited
	}
	return int(limit.Cur)
}

// maxAdmin returns the maximum number of admin connections.
func (d descriptorUse) maxAdmin(limit int) int {
	return max(minAdmin, min(admin.DefaultMaxConnections, limit/adminDivisor))
}

// reserve returns the number of descriptors that HTTP connections must leave free.
func (d descriptorUse) reserve(cfg *config.Config, limit int) int {
	return d.atStart + ownDescriptors + descriptorsPerUpload*cfg.Shipper.Concurrency + descriptorsPerAdmin*d.maxAdmin(limit) + acceptedPerListener*d.listeners
}

// limitConnections limits the descriptors of HTTP connections to what the reserve leaves.
func (d descriptorUse) limitConnections(l *httpserver.Limits, cfg *config.Config) {
	limit := openFilesLimit()
	l.MaxDescriptors = max(minForClients, limit-d.reserve(cfg, limit))
}

// warnIfTooFew logs a warning if the limit of open files allows fewer connections than
// configured.
func (d descriptorUse) warnIfTooFew(cfg *config.Config, effective int, logger *slog.Logger) {
	if effective >= cfg.HTTP.MaxConnections {
		return
	}
	limit := openFilesLimit()
	logger.Warn("fewer connections may be open than http.max_connections: the limit of open files is too low (raise LimitNOFILE= or ulimit -n)",
		"max_connections", cfg.HTTP.MaxConnections, "in_effect", effective,
		"open_files", limit, "reserved", d.reserve(cfg, limit))
}
