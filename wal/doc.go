// Package wal keeps records on disk until they are confirmed elsewhere.
//
//	Append, AppendTo, Enqueue
//	   |
//	 queue       draws ids, times and seqs; keeps the ledger
//	   | commit
//	 committer   writes a frame and syncs it; then appenders are woken
//	   | retired segment          ^ prepared segment
//	 roller      seals, and prepares the next
//	   | sealed segment
//	 shelf       Sealed -> Segment.Keep, Remove, evict, Salvage, Split -> deleted
//
// Each box is one struct in a file of that name, with a paragraph on what it receives
// and what it must do. Committer, roller and shelf are a goroutine each. Three more wake
// appenders, write zeros ahead of the active segment, and bound every wait for the disk
// to CommitTimeout. Nothing that waits for a disk holds a mutex that an appender needs.
//
// Read the files in the order of the data's path; those of one part begin alike:
//
//	log.go options.go   the exported methods
//	queue*.go           where an id is drawn (queue.append, queue.nextCommit: queue_id.go)
//	committer*.go       what becomes of appenders if a sync fails (committer.fail)
//	active.go zeros.go  the segment that is written to; who may write to its file
//	roller*.go          when the name of a segment is durable (roller.sealOne, FORMAT.md)
//	shelf*.go           the sealed segments and the bounds
//	removal*.go         who deletes what (the list below, and type removal)
//	salvage*.go         what a crash during a salvage leaves (Log.Salvage), and splitting
//	loss*.go            loss notes
//	start*.go           from what a crash left to a whole log, in FORMAT.md's steps
//	quarantine*.go      what is kept for people
//	inspect*.go         the log from outside, for commands
//
// The package owns the data directory's lock, the log directory below it, the numbering
// and naming of records, segments and runs, and the ledger that accounts for every
// record. Package segment owns the format of a segment's file; package vfs reaches
// files. Nothing here depends on JSON, HTTP or object storage.
//
// # What leaves the log, and in which words
//
//   - keep: a segment is off the list and still there: its records are confirmed.
//   - remove: a segment leaves the log. Segment.Remove: its records are confirmed.
//   - evict: it is removed to make room, with a loss note.
//   - replace: it is removed since others hold its records: pieces of a salvage, or
//     halves of a split. A note stands for what they do not hold.
//   - delete: a file or directory is unlinked. Of a segment with records only the
//     shelf and the start do that, once the name .gone is durable; of a loss note, the
//     losses, once the storage has it or another note includes it.
//   - tombstone: the directory of a deleted file, kept since its name tells the next seq.
//   - put aside: what is damaged as a whole, or in the way, is moved to the quarantine;
//     if that fails it is renamed, or left for the next start. Damaged bytes of a segment
//     are quarantined: copied there.
//   - clear: the place for a name is made free, by one of these.
//   - retire: the committer stops writing to a segment and passes it to the roller.
//   - give up: what the disk can't read after a restart either counts as lost, and its file
//     is moved to the quarantine.
//   - abandon: nobody waits any more for a call of the disk that hangs or has failed.
//   - drop: a usage is lost that was accepted (the ledger); reject: it was not accepted.
//
// # Invariants
//
//   - Append returns nil only after fdatasync(2) of the records; with SyncInterval, after
//     they were written.
//   - Times are drawn and ids reserved under the queue's mutex, seqs when the committer
//     takes a commit. Ids that the log draws rise with the seqs; times do while the clock
//     does. Seqs have no hole but those that were skipped because the disk could not read the
//     end of a segment. The seqs of a failed commit are used again.
//   - Only the committer writes records, and only to the active segment. Zeros behind them
//     are written by the roller before and by one goroutine while it is active. The roller
//     cuts the file at the last record; the start does so for a segment that a crash left
//     open. Nothing is ever added to a segment of an earlier run.
//   - Records of Enqueue, for which nobody waits, wait stagedWait for others to share a commit
//     with, at most, if the disk keeps up. Nothing else waits for them: not an append, which takes
//     them along, not Seal, and not Close.
//   - After a failed write or sync no other record is written to that segment. It ends at
//     its last acknowledged record. The appenders of that commit, and of those that wait
//     behind it, get ErrCommitFailed.
//   - A segment's name is its state: next becomes FIRST becomes FIRST-LAST becomes
//     FIRST-LAST.gone, each by one rename, and by way of .evicted, .damaged or .lost if
//     records are lost. The name FIRST is durable before the segment in front of it is
//     sealed; every other name is durable before the next step.
//   - A loss is noted durably before the ledger counts it.
//   - A kept segment is a cache: no append is refused and no segment evicted for want of
//     room that removing one would make.
//   - Open fails only for its options, or if the data directory can't be made or locked.
//     What can't be read is put aside or left, and a disk that fails, or does not answer,
//     is waited for (start.go). Open and Close wait for no call of the disk longer than
//     CommitTimeout (start_hang.go).
//   - Every record that is known to exist is in exactly one place of the ledger, at every
//     moment at which Ledger can be called.
//
// FORMAT.md describes the files byte by byte.
package wal
