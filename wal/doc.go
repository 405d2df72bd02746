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
// appender waits longer than CommitTimeout. What waits for a disk holds no mutex that
// an appender needs.
//
// The package owns the data directory's lock, the log directory below it, the
// numbering and naming of records, segments and runs, and the ledger that accounts
// for every record. One segment's file is the business of package segment, and all
// files are reached through package vfs. It knows nothing of JSON, HTTP or object
// storage.
//
// Invariants:
//
//   - Append returns nil only after the records are on disk (with SyncAlways:
//     after fsync).
//   - Ids and times are drawn under the queue's mutex, seqs when a commit is taken
//     from it, and all rise together. Seqs rise by one without a hole within a log;
//     those of a failed commit are given out again.
//   - Only the committer writes to a segment's file, and only while it is the active
//     one. An existing file is never opened for writing: a start seals what a crash
//     left and begins a new segment above it.
//   - After a failed write or sync no other is tried on that segment. It ends at its
//     last acknowledged record; its appenders, and those that wait, get an error.
//   - A segment's name is its state: next becomes FIRST becomes FIRST-LAST
//     becomes FIRST-LAST.gone, each by one rename, and by way of .evicted or
//     .damaged where records are lost. Renames are durable after a sync of the
//     directory: that of FIRST before the next segment is sealed, all others before
//     anybody acts on them.
//   - Nothing but the shelf, and a start, deletes a segment; and only once .gone is
//     durable. A loss is decided by a rename, then noted, then booked.
//   - Open fails only where the data directory can't be made or locked. What can't be
//     read is put aside, and a disk that fails is waited for: see start.go.
//   - Every record is in exactly one place of the ledger, at every moment at
//     which Ledger can be called.
//
// FORMAT.md describes the files byte by byte.
package wal
