// Package httpserver is the HTTP server to which clients send usages.
//
//	listener -> conn -> http1 -> header -> body -> usages -> one batch -> AppendSeq -> answer
//
// A conn is a client's connection: its state, its deadline and its bytes in memory. It
// does no input and output itself. conn.next returns the next step, and one of two
// drivers executes it.
//
//   - loop (loop.go, loopconn.go) drives connections of TCP and unix sockets, thousands on
//     one goroutine. It never blocks on one of them, and writes a commit for all of them
//     itself. If the disk is slow, another goroutine takes the loop over (relief.go).
//     Other slow work goes to workers (workers.go).
//   - conn.serve (drive.go) runs on a goroutine that reads, writes and waits for one
//     connection. Each TLS connection has such a goroutine, since package crypto/tls reads
//     and writes by itself.
//
// The loop does not use a library such as gnet, since it is only a few hundred lines
// around package epoll, and the rest is specific to this server: inherited listeners,
// connections that make room, memory budgets, and a log that wakes the loop.
//
// exchange.go shows the path of a request, from top to bottom. conn.go lists the states
// of a connection and their deadlines (type state). room.go defines which connection
// makes room when there are too many. memory.go and the table below describe how memory
// is limited.
//
// The package owns connections, TLS handshakes, deadlines, request bodies and their
// memory, repeated requests (Idempotency-Key), and answers. It does not own the format of
// a usage (package usage), the authentication of clients (package auth), the listeners
// before Serve, the log, or the ledger, to which it only reports rejected usages.
//
// Invariants:
//
//   - 2xx is answered only after the log has committed the usages. For a repeated
//     Idempotency-Key, an earlier request has committed them. A request is one append,
//     so either all of its valid usages are stored, or none.
//
//   - No state of a request reaches the next one: it is replaced as a whole when the next
//     request begins. A connection's deadline is replaced when a state begins.
//
//   - Memory for a request is allocated as its bytes arrive, not as its header announces
//     them. No bytes of a stranger (a client not authenticated yet, see room.go) are logged.
//
//   - The client is identified before the body is read, at every request, so that a
//     new Policy applies to open connections, too.
//
//   - When all places are taken, connections that were never authenticated make room
//     first, whatever their state. A request whose usages were passed to the log keeps its
//     connection until it is answered.
//
//   - Every usage that was received is either passed to the log or reported to it as
//     rejected, once.
//
// The memory in use has a bound that no client can exceed:
//
//	what                        bound, by default                           MiB
//	connections                 MaxConnections (10,000) of 1.2 KiB each      12
//	received bytes, requests,   loopsBudgetBytes for all connections of loops; a
//	  first 4 KiB of each body  connection without a share is not read       16
//	TLS connections             MaxTLSConnections (1,024) of 45 KiB each:
//	                            a stack of 8 KiB, received bytes, a request,
//	                            a record of 16 KiB, keys                     45
//	body bytes up to 64 KiB     smallBodiesBytes for all bodies together      2
//	body bytes beyond 64 KiB    MaxInFlight for all bodies together          16
//	answers beyond 4 KiB        the same two budgets, in addition to the body
//	compressed bodies, while    MaxBody for all together; up to 64 KiB they
//	  they are decoded          do not count                                  4
//	decoders                    4; the window of zstd is the body itself      2
//	member names, compared to   4 times MaxRecord for each processor          8
//	  find duplicates
//	copies for the log          the budget storing. A large body is freed
//	                            while it is copied, so that only a smaller
//	                            one counts twice. If the client asks for
//	                            ids, each value takes one more bit           15
//	remembered keys             IdempotencyKeys (65,536) of 110 bytes each    7
//	datagrams being read        a batch for each socket of package udpserver  1
//	kept for reuse              buffers, mappings and lists, 16 of each       5
//
// For each connection the kernel uses 3 KiB more, up to 8 KiB for answers that the client
// has not read (sendBufferBytes), and up to 2 * RequestBuffer for what the server has not
// read. With cgroup version 2 all of this counts as memory of the process, and it can be
// more than there is. groupmemory.go says which connections make room then.
//
// In addition, the log has its queue (9 MiB) and buffers of three frames (4 MiB), and the
// shipper its uploads (10 MiB). The program takes 19 MiB, plus the runtime and garbage
// that is not yet collected. Package main sets the soft limit for that: 64 MiB for heap
// and stacks together.
package httpserver

import (
	"context"
	"errors"
	"iter"

	"collectord/wal"
)

// ErrStarting is returned by a Log's Full and AppendTo while the log is not open yet.
// AppendSeq waits until it is open.
var ErrStarting = errors.New("starting")

// Log is the part of *wal.Log that the server uses.
type Log interface {
	// AppendSeq stores all of the records or none, in order. It returns nil once they are
	// durable; only then may a client get 2xx.
	//
	// It ranges over recs twice on the caller's goroutine, first to measure and then to
	// copy, and both passes must yield the same records. When it asks for the next record
	// in the second pass, the previous one has its ID (unless the caller set one) and
	// ReceivedAt, and the caller may reuse its usage's memory. AppendSeq uses nothing of
	// recs after it returns.
	//
	// The log counts all errors except those of ctx. An immediate retry does not help after
	// any of them:
	//
	//	wal.ErrFull, ErrUnavailable  nothing was stored; a retry may succeed in some seconds
	//	wal.ErrClosed                nothing was stored: the log is shutting down for good
	//	wal.ErrCommitFailed          may be stored: only a repetition with the same ids is safe
	//	the error of ctx             nothing was stored; not counted
	//	any other                    nothing was stored: a record fails wal.Record.Check, a fault of the server
	AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error

	// AppendTo is AppendSeq for an event loop. It copies the records into a commit and
	// returns the commit's number; w receives the outcome. It fails at once with
	// AppendSeq's errors, and with ErrStarting where AppendSeq would wait. Commit writes
	// the commit on the calling goroutine, unless another is being written. RequestCommit
	// leaves that to the log.
	AppendTo(w *wal.Waiter, recs iter.Seq[*wal.Record]) (commit uint64, err error)
	Commit()
	RequestCommit()

	// Reject counts n usages that were rejected for a reason and not passed to the log.
	// With n = 0 it only adds the reason to the metrics.
	Reject(s wal.Source, reason string, n int)

	// Repeat counts n usages that an earlier request with the same Idempotency-Key has
	// stored, so that they are not appended.
	Repeat(s wal.Source, n int)

	// Full returns the error with which AppendSeq would fail now, or nil. The result may
	// be outdated at once.
	Full() error
}
