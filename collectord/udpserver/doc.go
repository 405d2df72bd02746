// Package udpserver reads datagrams and appends their usages to the queue of the log.
//
//	message -> datagrams -> usages -> one batch -> Enqueue (no response)
//
// A message is what the kernel returns as one: a datagram, or several that a sender handed
// to its kernel as one (UDP_SEGMENT) or a network card has joined (UDP_GRO). Reading 64
// datagrams as one message takes less than half the CPU time (measured).
//
// The package owns its sockets, how they are read, and the filter of allowed source
// addresses. The filter is no authentication, because addresses can be forged. The
// package does not own the definition of a usage (package usage), the log, or the
// ledger. It only reports rejected usages to the ledger.
//
// Invariants:
//
//   - A datagram is scanned once from front to back, and its memory is reused.
//
//   - Every datagram that reaches a socket is either read or in the kernel's count of
//     dropped datagrams. That count is an estimate for messages of several datagrams (type
//     dropCount), and exact otherwise. Every usage in a datagram that is read is passed to the log once,
//     or reported once as rejected.
//
//   - Reading never waits for the disk. The log rejects and counts usages that do not fit
//     in its queue.
//
//   - Each socket has memory for one batch of messages, and most of its pages are never
//     touched.
package udpserver

import "collectord/wal"

// Log is the part of *wal.Log that the server uses.
type Log interface {
	// Enqueue copies records into the queue, in order, and returns how many it copied. It
	// counts the rest as rejected. If it rejects any, the queue is full, or the log accepts
	// no records and Full returns why. Enqueue never waits for the disk, and keeps no reference to
	// the records and their usages.
	Enqueue(recs ...wal.Record) int

	// YieldToIngest asks background work of the log to leave the disk and the processor
	// to the readers for a moment.
	YieldToIngest()

	// Reject counts n usages that were rejected for a reason. n = 0 only creates the
	// reason's series in the metrics.
	Reject(s wal.Source, reason string, n int)

	// Full returns why the log accepts no records at the moment, or nil.
	Full() error
}
