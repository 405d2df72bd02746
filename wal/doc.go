// Package wal keeps records on disk until they are confirmed elsewhere.
//
//	Append, Waiter.Append, Enqueue
//	   |
//	 queue       draws ids, times and seqs; keeps the ledger
//	   | commit
//	 committer   writes a frame and syncs; appenders are told behind it
//	   | retired segment          ^ prepared segment
//	 roller      seals, and prepares the next
//	   | sealed segment
//	 shelf       Sealed -> Segment.Remove, evict, Salvage -> deleted
//
// Each box is one struct in a file of that name, with a paragraph on what it
// receives and what it owes. Committer, roller and shelf are a goroutine each; three
// more wake appenders, write zeros ahead of the active segment, and watch that no
// wait for the disk is longer than CommitTimeout. What waits for a disk holds no mutex
// that an appender needs.
//
// The package owns the data directory's lock, the log directory below it, the
// numbering and naming of records, segments and runs, and the ledger that accounts
// for every record. The format of a segment's file is the business of package segment;
// files are reached through package vfs. It knows nothing of JSON, HTTP or object
// storage.
//
// Invariants:
//
//   - Append returns nil only after fdatasync of the records; with SyncInterval, after
//     they were written.
//   - Times are taken and ids reserved under the queue's mutex, seqs when a commit is
//     taken from it. Ids that the log draws rise with the seqs; times do while the
//     clock does. Seqs are without a hole, but for what was skipped because the disk
//     did not give the end of a segment; those of a failed commit are given out again.
//   - Records are written by the committer alone, and only to the active segment. The
//     roller cuts off what follows the last record, and so does a start. Nothing is
//     ever added to a segment of an earlier run.
//   - After a failed write or sync no other record is written to that segment. It ends
//     at its last acknowledged record; its appenders, and those that wait, get an error.
//   - A segment's name is its state: next becomes FIRST becomes FIRST-LAST becomes
//     FIRST-LAST.gone, each by one rename, and by way of .evicted, .damaged or .lost
//     where records are lost. The name FIRST is durable before the segment in front of
//     it is sealed, all others before anybody acts on them.
//   - A segment with records is deleted by the shelf, or by a start, once .gone is
//     durable. A loss is noted durably before it is booked.
//   - Open fails only for its options, or where the data directory can't be made or
//     locked. What can't be read is put aside, and a disk that fails is waited for: see
//     start.go.
//   - A kept segment is confirmed, and is a cache: no append is refused and no segment
//     evicted while one could be released, and its release is no loss.
//   - Every record that is known to exist is in exactly one place of the ledger, at
//     every moment at which Ledger can be called.
//
// FORMAT.md describes the files byte by byte.
package wal
