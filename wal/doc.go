// Package wal keeps records on disk until they are confirmed elsewhere.
//
//	Append, Enqueue -> commit (one frame, one fsync) -> active segment
//	                                                      | roll
//	              removed <- Segment.Remove <- Sealed <- sealed segment
//
// It owns the data directory's lock, the log directory below it, the numbering
// and naming of records, segments and runs, and the ledger that accounts for
// every record. It knows nothing of JSON, HTTP or object storage.
//
// Invariants:
//
//   - Append returns nil only after the records are on disk (with SyncAlways:
//     after fsync).
//   - Sequence numbers rise by one without a hole within a log; a frame holds a
//     contiguous range of them, a segment a contiguous run of frames.
//   - A segment's name is its state: NEXT becomes FIRST becomes FIRST-LAST
//     becomes FIRST-LAST.gone, each by one rename, and by way of .evicted or
//     .damaged where records are lost. A sealed segment and its name
//     are durable before Sealed hands it out.
//   - An existing log file is never opened for writing: a start seals what a
//     crash left and begins a new segment above it.
//   - Every record is in exactly one place of the ledger, at every moment at
//     which Ledger can be called.
//
// FORMAT.md describes the files byte by byte.
package wal
