// Package send is a client for collectord. It serves as a smoke test, as an importer for a
// file of usages, and as a load generator.
//
//	plan (which request or datagram is due when) -> usages -> HTTP request or datagram -> Summary
//
// The package owns the pace, the generated usages, the two transports, the parsing of
// responses, the rules for retries, and the totals. The caller owns flags and output. The
// package reads no configuration, and shares no code with the servers so that it can't
// share their bugs.
//
// Invariants:
//
//   - Request k contains usages k·Batch up to (k+1)·Batch-1, independent of the worker and
//     the number of attempts: the content of a run depends only on its options.
//   - With a Rate each request has a due time that is computed from the start and its
//     number, so that the pace can't drift. Latency counts from the due time and therefore
//     includes the wait for a free connection (no coordinated omission).
//   - Only a complete, well-formed response acknowledges a usage. Each claimed usage is in
//     exactly one of acknowledged, rejected and failed.
//   - A connection is closed after a response whose end is uncertain, and after a response
//     that is followed by unexpected data.
//   - A retry has the same Idempotency-Key and the same bytes.
//   - No error and no Summary contains the token.
package send
