// Package httpserver answers clients that send usages over HTTP.
//
//	listener -> conn -> http1 -> header -> body -> usages -> one batch -> AppendSeq -> answer
//
// A conn is a connection: what it is doing, until when, and what of it is in memory. It
// does no input and output: conn.next says what it needs, and one of two drivers does that.
//
//   - loop (loop.go, loopconn.go, loopmemory.go) drives the connections of TCP and unix
//     sockets, thousands on one goroutine. It waits for none of them, and the log wakes it
//     once a commit. What takes long it gives to workers (workers.go).
//   - conn.serve (drive.go) is a goroutine that reads, writes and waits for one connection.
//     Those with TLS have one each, since package crypto/tls reads and writes by itself.
//
// The loop is not a library's (such as gnet), since it is a few hundred lines around
// package epoll, and what surrounds it is ours: listeners that were passed on, connections
// that make room, memory by budget, and a log that wakes it.
//
// What a request goes through stands in exchange.go, from top to bottom; what a connection
// may be doing, and for how long, at the type state (conn.go); who makes room where there
// are too many, in room.go; what may be held in memory, in memory.go and below.
//
// It owns connections, TLS handshakes, deadlines, what is read and how much of it, the
// memory for it, repeated requests (Idempotency-Key), and what is answered. It does
// not own what a usage is (package usage), which clients may send (package auth), the
// listeners before Serve, the log, or the ledger, to which it only reports what it
// rejects.
//
// Invariants:
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
//   - Who sends a request is checked before its body is read, at every request: the
//     Policy holds for open connections, too.
//
//   - Where there are too few places, whoever was never authenticated makes room
//     first, whatever it is doing, and no request whose usages were given to the
//     log loses its connection.
//
//   - Every usage that was received is either given to the log or reported to
//     it as rejected, once.
//
// What is held in memory has a bound, whatever strangers do:
//
//	what                        bound, by default                           MiB
//	connections                 MaxConnections, 10,000 of them: 1.2 KiB      12
//	  what came, requests,      headBytes for all that loops drive: one
//	  4 KiB of each body        without a share of that is not read          16
//	  with TLS                  MaxTLSConnections, 1,024 of them: stack 8 KiB,
//	                            what came, request, a record of 16 KiB, keys 45
//	bodies below 64 KiB         smallBodies for all                           2
//	  beyond                    MaxInFlight for all                          16
//	  answers beyond 4 KiB      of the same two, beside the body
//	  as sent, while decoded    MaxBody for all, where both forms are large   4
//	decoders                    4, which look back in the body itself         2
//	names of usages             4 times MaxRecord for each processor          8
//	copies, for the log         what storing has; a large body is let go as
//	                            it is copied, so that a small counts twice;
//	                            a bit a value, where ids are asked for       15
//	remembered keys             IdempotencyKeys, 65,536 of 110 bytes          7
//	datagrams being read        package udpserver, a batch for each socket    1
//	free for others             buffers, mappings and lists, 16 of each       5
//
// The kernel has 3 KiB more of each connection, and at most 8 KiB of answers that are not
// taken (answerBuffer). It counts these as memory of the cgroup; with version 2, also what
// has come over TCP and is not read.
//
// Beside that the log has its queue (9 MiB) and buffers of three frames (4 MiB),
// the shipper its uploads (10 MiB), and the program is there (19 MiB), with what
// its runtime needs, and what the garbage collector has not found yet. Package main
// sets the soft limit for that: 64 MiB for heap and stacks together.
package httpserver

import (
	"context"
	"errors"
	"iter"

	"collectord/wal"
)

// ErrStarting is what a Log's Full and AppendTo return while it is not open yet.
// AppendSeq waits until it is.
var ErrStarting = errors.New("starting")

// Log is what the server needs of *wal.Log.
type Log interface {
	// AppendSeq stores all of the records or none, in order, and returns nil once
	// they are durable: only then may a client get 2xx.
	//
	// It ranges over recs twice on the caller's goroutine, first to measure and then
	// to copy, and both must yield the same. When it asks for the next record in the
	// second pass, the one before has its ID (unless that was set) and ReceivedAt,
	// and is copied: its usage's memory is the caller's again. Nothing of recs is
	// used after AppendSeq returned.
	//
	// Errors, all of which the log has counted, and none of which is cleared by
	// asking again at once:
	//
	//	wal.ErrFull, ErrUnavailable  nothing was stored; may work in some seconds
	//	wal.ErrClosed                nothing was stored, nor will be: shutting down
	//	wal.ErrCommitFailed          may be stored: only repeating with the same ids is safe
	//	of ctx                       nothing was stored; not counted
	//	any other                    nothing was stored: a record exceeds wal.Record.Check, a fault of the server
	AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error

	// AppendTo is AppendSeq for an event loop: it copies the records into a commit and
	// returns its number; w is told how that ends. It fails at once as AppendSeq does, and
	// with ErrStarting where AppendSeq would wait. Commit begins the commit.
	AppendTo(w *wal.Waiter, recs iter.Seq[*wal.Record]) (commit uint64, err error)
	Commit()

	// Reject counts n usages that were rejected for a reason and not given to the
	// log. With n = 0 it makes the reason known to the metrics.
	Reject(s wal.Source, reason string, n int)

	// Repeat counts n usages that were stored by an earlier request with the same
	// Idempotency-Key, so that nothing is appended.
	Repeat(s wal.Source, n int)

	// Full returns the error with which AppendSeq would fail now, or nil. The answer
	// may be untrue a moment later.
	Full() error
}
