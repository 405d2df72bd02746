// Package udpserver reads datagrams and gives their usages to the log.
//
//	datagram -> usages -> one batch -> Enqueue (never answered)
//
// It owns the sockets that it is given, what is read from them and how, and who may
// send by address, which is a filter and no authentication: addresses can be forged.
// It does not own what a usage is (package usage), the log, or the ledger, to which it
// only reports what it rejects.
//
// Invariants:
//
//   - A datagram is read once from front to back, without allocating for it,
//     whatever it holds.
//
//   - Every datagram that was sent to a socket is read, or in the kernel's count of
//     those it had no room for; every usage in one that is read is given to the log
//     or reported to it as rejected, once. So the sockets are without UDP_GRO, with
//     which the kernel counts up to 64 datagrams that it drops together as one
//     (measured: 227 for 14,528).
//
//   - Reading never waits for the disk: what the log's queue has no room for, it drops
//     and counts.
//
//   - Memory is one batch of datagrams a socket, most of it never touched.
package udpserver

import "collectord/wal"

// Log is what the server needs of *wal.Log.
type Log interface {
	// Enqueue copies records into the queue, in order, and returns how many. The log
	// counts the others as rejected: there was no room for them, or it takes none at
	// all (then Full says why). It never waits for the disk. The records and their
	// usages are the caller's again when it returns.
	Enqueue(recs ...wal.Record) int

	// YieldToIngest asks background work of the log to leave the disk and the
	// processor to reading for a moment.
	YieldToIngest()

	// Reject counts n usages that were rejected for a reason. With n = 0 it makes
	// the reason known to the metrics.
	Reject(s wal.Source, reason string, n int)

	// Full returns why the log takes no records at the moment, or nil.
	Full() error
}
