package main

import (
	"log/slog"

	"collectord/collectord/units"
	"collectord/config"
)

// Soft memory limits, at which the garbage collector starts to work harder. They
// enforce nothing; the hard limits of the packages do. A soft limit must be well above
// the memory in use: below it the collector runs all the time, and uses half of the
// CPU. Heap and stacks count, including free memory. The program itself (19 MiB) and
// the memory of large bodies do not.
const (
	daemonMemoryLimit = 64 << 20 // for baseConnections active connections, also with TLS
	shipMemoryLimit   = 40 << 20 // for collectord ship, which has no connections
	auditMemoryLimit  = 40 << 20 // for collectord audit: its memory has no pointers, so a collection is cheap
	auditGCPercent    = 20       // percent of the memory in use

	programMemory = 19 << 20 // not counted by the limit

	baseConnections = 1024
	baseHeader      = 8 << 10
	baseKeys        = 1 << 16

	memoryPerConnection = 2 << 10  // an idle connection, and the same again for the garbage collector
	memoryPerTLS        = 64 << 10 // for TLS in addition: reader, stack, request, a record, keys, and space for the garbage collector
	// What the kernel needs for a connection, if it counts: see requestBuffer.
	kernelPerConnection  = 12 << 10
	minRequestBuffer     = 4 << 10
	defaultRequestBuffer = 32 << 10
	// unwrittenFiles is what the log and the shipper write before the kernel can free it: a
	// queue (9 MiB), three frames (4 MiB), and parts of uploads.
	unwrittenFiles = 16 << 20

	memoryPerKey = 220 // twice an Idempotency-Key, because the table is copied as it grows
)

// memoryLimit returns the soft memory limit in bytes for a configuration and a maximum
// of connections.
func memoryLimit(cfg *config.Config, connections int) int64 {
	limit := int64(daemonMemoryLimit)
	limit += int64(max(0, connections-baseConnections)) * memoryPerConnection
	if cfg.HTTP.TLS.Cert != "" {
		tlsConnections := min(connections, cfg.HTTP.MaxTLSConnections)
		limit += int64(max(0, tlsConnections-baseConnections)) * memoryPerTLS
		limit += int64(tlsConnections) * max(0, cfg.HTTP.MaxHeader-baseHeader)
	}
	limit += int64(max(0, cfg.HTTP.IdempotencyKeys-baseKeys)) * memoryPerKey
	return limit
}

// goMemoryLimit returns the soft limit in a control group. A small group limits it to a half,
// so that the other half is left for what it does not count: the program, large bodies, files
// and the kernel's buffers.
func goMemoryLimit(cfg *config.Config, connections int, groupLimit int64) int64 {
	return min(memoryLimit(cfg, connections), groupLimit/2)
}

// memoryNeeded returns how many bytes the process itself may take, without what the kernel
// needs for its connections.
func memoryNeeded(cfg *config.Config, connections int) int64 {
	return memoryLimit(cfg, connections) + programMemory + cfg.HTTP.MaxInFlight
}

// requestBuffer returns the size in bytes of the receive buffer that each connection begins
// with: so much that the group's memory suffices if all clients send and the daemon reads
// nothing. A small buffer delays the first bytes of large requests a little.
func requestBuffer(cfg *config.Config, connections int, groupLimit int64) int {
	forBuffers := groupLimit - memoryNeeded(cfg, connections) - datagramBuffers(cfg) - unwrittenFiles - int64(connections)*kernelPerConnection
	each := forBuffers / int64(connections) / 2 // the kernel doubles the size
	return int(min(max(each, minRequestBuffer), defaultRequestBuffer)) &^ (minRequestBuffer - 1)
}

// datagramBuffers returns how many bytes the kernel may take for datagrams that are not read.
func datagramBuffers(cfg *config.Config) int64 {
	if len(cfg.UDP.Listen) == 0 {
		return 0
	}
	return 2 * cfg.UDP.ReceiveBuffer // the kernel doubles the size
}

// kernelNeeded returns how many bytes the kernel may take for that many connections,
// datagrams and files, in a group with this limit.
func kernelNeeded(cfg *config.Config, connections int, groupLimit int64) int64 {
	return datagramBuffers(cfg) + unwrittenFiles + int64(connections)*int64(kernelPerConnection+2*requestBuffer(cfg, connections, groupLimit))
}

// warnOfGroupMemory logs a warning if strangers can use up the memory of the control group.
func warnOfGroupMemory(cfg *config.Config, connections int, groupLimit int64, logger *slog.Logger) {
	own, kernel := memoryNeeded(cfg, connections), kernelNeeded(cfg, connections, groupLimit)
	if groupLimit >= own+kernel {
		return
	}
	logger.Warn("the memory of the control group does not suffice for http.max_connections: when it is used up, connections that are not authenticated make room (raise MemoryMax= or the container's limit, or lower http.max_connections)",
		"max_connections", connections, "limit", units.Bytes(groupLimit), "process", units.Bytes(own), "kernel", units.Bytes(kernel))
}
