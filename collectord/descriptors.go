package main

import (
	"log/slog"
	"os"
	"syscall"

	"collectord/collectord/admin"
	"collectord/collectord/httpserver"
	"collectord/config"
)

// What a running daemon may open beside what is open at its start: clients must
// leave that much, or the log stops for all of them.
const (
	assumedAtStart     = 32 // open at start, where that can't be counted
	ownDescriptors     = 32 // the log's segments and notes, files of the configuration, name lookups
	eachUpload         = 8  // a segment, its spool file, connections or files of the storage
	eachAdmin          = 2  // the connection, and a file that its scrape reads
	adminShare         = 16 // admin connections take at most 1/adminShare of all descriptors
	leastAdmin         = 4
	leastForClients    = 16 // even if the reserve suffers: a daemon that serves nobody is of no use
	beginningListeners = 1  // each HTTP listener may have accepted one connection more
)

// descriptors are the file descriptors of the process, and who may take them.
type descriptors struct {
	atStart   int // open before any client could connect
	listeners int // of HTTP
}

// countDescriptors is called once all sockets are bound, and before the first
// connection is accepted.
func countDescriptors(listeners int) descriptors {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return descriptors{assumedAtStart, listeners} // proc(5) may not be mounted
	}
	return descriptors{len(open), listeners}
}

// maxOpen is RLIMIT_NOFILE. The Go runtime has raised the soft limit to the hard
// limit when the process started.
func maxOpen() int {
	var limit syscall.Rlimit
	const unlimited = 1 << 30
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > unlimited {
		return unlimited
	}
	return int(limit.Cur)
}

// admins is how many admin connections may be open.
func (d descriptors) admins(limit int) int {
	return max(leastAdmin, min(admin.DefaultMaxConnections, limit/adminShare))
}

// reserve is how many descriptors HTTP connections must leave.
func (d descriptors) reserve(cfg *config.Config, limit int) int {
	return d.atStart + ownDescriptors + eachUpload*cfg.Shipper.Concurrency + eachAdmin*d.admins(limit) + beginningListeners*d.listeners
}

// bound bounds what HTTP connections may open, by what is left of the limit.
func (d descriptors) bound(l *httpserver.Limits, cfg *config.Config) {
	limit := maxOpen()
	l.MaxDescriptors = max(leastForClients, limit-d.reserve(cfg, limit))
}

// warn logs that fewer connections may be open than was configured.
func (d descriptors) warn(cfg *config.Config, effective int, logger *slog.Logger) {
	if effective >= cfg.HTTP.MaxConnections {
		return
	}
	limit := maxOpen()
	logger.Warn("fewer connections may be open than http.max_connections: the limit of open files is too low (raise LimitNOFILE= or ulimit -n)",
		"max_connections", cfg.HTTP.MaxConnections, "in_effect", effective,
		"open_files", limit, "reserved", d.reserve(cfg, limit))
}
