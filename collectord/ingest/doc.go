// Package ingest turns network bytes into valid records and hands them to the
// log.
//
//	HTTP: request  -> body -> usages -> one batch -> Append  (answered once it is durable)
//	UDP:  datagram         -> usages -> one batch -> Enqueue (never answered)
//
// It owns the two doors: what is read, how much of it, from whom (tokens, TLS,
// certificates of clients), and what is refused with which code. It does not own
// listeners (they are handed in, and speak plaintext), the log, or the
// ledger, to which it only reports what it refuses.
//
// Invariants:
//
//   - A usage reaches the log only if it is one JSON object that no reader of
//     the objects can stumble over (checkUsage), and is stored as it was sent,
//     but for line breaks between tokens.
//   - 2xx is answered only after Append returned nil, now or, for a repeated
//     Idempotency-Key, before. A request is one Append, so all of it that is
//     valid is stored, or nothing.
//   - Nothing a stranger declares is allocated before it arrives, and nothing a
//     stranger sends is logged.
//   - Who sends a request is asked before its body is read, at every request: what
//     Identity says holds for open connections, too.
//   - A datagram is read once from front to back, without allocating for it,
//     whatever it holds; every datagram sent to a socket of ours is read, or in
//     the kernel's count of those it had no room for.
//   - Every usage that was received is either handed to the log or reported to
//     it as rejected, once.
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
	Reject(s wal.Source, reason string, n int)
	Repeat(s wal.Source, n int)
	Full() error
}
