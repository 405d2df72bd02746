// Package ingest turns network bytes into valid records and hands them to the
// log.
//
//	HTTP: request  -> body -> usages -> one batch -> Append  (answered once it is durable)
//	UDP:  datagram         -> usages -> one batch -> Enqueue (never answered)
//
// It owns the two doors: what is read, how much of it, from whom (tokens, TLS,
// certificates of clients), and what is refused with which code. It does not bind
// the listeners that it takes over, and does not own the log, or the ledger, to
// which it only reports what it refuses.
//
// Invariants:
//
//   - A usage reaches the log only if it is one JSON object that no reader of
//     the objects can stumble over (checkUsage), and is stored as it was sent,
//     but for line breaks between tokens.
//
//   - 2xx is answered only after Append returned nil, now or, for a repeated
//     Idempotency-Key, before. A request is one Append, so all of it that is
//     valid is stored, or nothing.
//
//   - A request finds nothing of the one before: its state is replaced as a whole
//     where it begins, and a connection's deadline where a state of it begins.
//
//   - Nothing a stranger declares is allocated before it arrives, and nothing a
//     stranger sends is logged.
//
//   - Who sends a request is asked before its body is read, at every request: what
//     Identity says holds for open connections, too.
//
//   - A datagram is read once from front to back, without allocating for it,
//     whatever it holds; every datagram sent to a socket of ours is read, or in
//     the kernel's count of those it had no room for.
//
//   - Where there are too few places, whoever was never authenticated makes room
//     first, whatever it is doing, and no request whose usages were handed to the
//     log loses its connection.
//
//   - Every usage that was received is either handed to the log or reported to
//     it as rejected, once.
//
// What is held in memory has a bound, whatever strangers do:
//
//	what                        bound, by default                           MiB
//	connections                 MaxConnections, 1,024 of them: reader 8 KiB,
//	                            stack 8 KiB, request and more 6 KiB          22
//	  with TLS                  a record of 16 KiB, keys                     19
//	bodies: the first 4 KiB     one for each connection                       4
//	  below 64 KiB              smallBodies for all                           2
//	  beyond                    MaxInFlight for all                          16
//	  as sent, while decoded    MaxBody for all, where both forms are large   4
//	decoders                    4, which look back in the body itself         2
//	copies, for the log         what storing has; a large body is let go as
//	                            it is copied, so that a small counts twice   15
//	remembered keys             IdempotencyKeys, 65,536 of 110 bytes          7
//	datagrams being read        a batch for each socket, seldom large         1
//	free for others             buffers, mappings and lists, 16 of each       5
//
// Beside that the log has its queue (9 MiB) and buffers of three frames (4 MiB),
// the shipper its uploads (10 MiB), and the program is there (19 MiB), with what
// its runtime needs, and what the garbage collector has not found yet. Package main
// sets the soft limit for that: 64 MiB for heap and stacks together.
package ingest

import (
	"context"
	"errors"
	"iter"

	"collectord/wal"
)

// ErrStarting is what a Log's Full returns while it is not open yet. AppendSeq
// waits until it is.
var ErrStarting = errors.New("starting")

// Log is what the doors need of *wal.Log.
type Log interface {
	AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error
	Enqueue(recs ...wal.Record) int
	YieldToIngest()
	Reject(s wal.Source, reason string, n int)
	Repeat(s wal.Source, n int)
	Full() error
}
