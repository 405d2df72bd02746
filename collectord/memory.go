package main

import "collectord/config"

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
	memoryPerKey        = 220      // twice an Idempotency-Key, because the table is copied as it grows
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
