package main

import "collectord/config"

// The soft limit of memory is where the garbage collector begins to work harder.
// It bounds nothing by itself; the limits of the packages do. It must lie well
// above what is in use: below, the collector runs all the time, and takes half of
// the CPU. A process counts for it with heap and stacks, free memory included, but
// not with its program (19 MiB) and the memory of large bodies.
const (
	memoryOfDaemon = 64 << 20 // with baseConnections that were all served, also over TLS, or as many more as share the loops' memory
	memoryOfShip   = 40 << 20 // of collectord ship, which has no connections
	memoryOfAudit  = 40 << 20 // of collectord audit: what is in use has no pointers, and costs a collection little
	garbageOfAudit = 20       // percent of what is in use

	memoryOfProgram = 19 << 20 // which the limit does not count

	baseConnections = 1024
	baseHeader      = 8 << 10
	baseKeys        = 1 << 16

	memoryOfConnection = 2 << 10  // what an idle one is, and as much for the collector
	memoryOfTLS        = 64 << 10 // more: reader, stack, request, a record, keys, and what the collector needs to be at ease
	memoryOfKey        = 220      // an Idempotency-Key, twice: the table is copied as it grows
)

// memoryLimit is the soft limit for what is configured, with so many connections.
func memoryLimit(cfg *config.Config, connections int) int64 {
	limit := int64(memoryOfDaemon)
	limit += int64(max(0, connections-baseConnections)) * memoryOfConnection
	if cfg.HTTP.TLS.Cert != "" {
		secure := min(connections, cfg.HTTP.MaxTLSConnections)
		limit += int64(max(0, secure-baseConnections)) * memoryOfTLS
		limit += int64(secure) * max(0, cfg.HTTP.MaxHeader-baseHeader)
	}
	limit += int64(max(0, cfg.HTTP.IdempotencyKeys-baseKeys)) * memoryOfKey
	return limit
}
