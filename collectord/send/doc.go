// Package send is a client for collectord: a smoke test, a way to get a file of
// usages in, and a load generator.
//
//	plan (which request or datagram is due when) -> usages -> HTTP request or datagram -> Summary
//
// It owns the pace, the usages it makes up, the two ways to send them, how answers
// are read, when a request is repeated, and the sums. It does not own flags or
// printing, reads no configuration, and shares no code with the servers, so that it
// can't share their mistakes.
//
// Invariants:
//
//   - Request k holds usages k·Batch up to (k+1)·Batch-1, whoever sends it and
//     how often: what a run sends depends on its options alone.
//   - With a Rate each request has a time at which it is due, computed from the
//     start and its number, so that the pace can't drift. Latency counts from
//     then, also where no connection was free: waiting is not omitted.
//   - A usage counts as acknowledged only by a whole, well-formed answer. Every usage taken up is in exactly one of acknowledged, rejected and failed.
//   - No answer is read from a connection after one whose end is in doubt, or behind
//     which more came than was asked for.
//   - A repeated request has the same Idempotency-Key and the same bytes.
//   - The token appears in no error and no Summary.
package send
