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
// Each box is one struct in a file of that name. Its comment describes its input and its
// duties. Committer, roller and shelf are a goroutine each. An event loop also writes
// commits on its own goroutine (Log.Commit). Three more goroutines wake appenders, write
// zeros ahead of the active segment, and bound every wait for the disk to CommitTimeout.
// A goroutine that waits for a disk holds no mutex that an appender needs.
//
// Read the files in the order of the data's path. Files of one part begin alike:
//
//	log.go options.go   the exported methods
//	queue*.go           where ids are reserved (queue.append, queue.nextCommit) and drawn
//	                    (batch.copy and stamp, by idSource.next)
//	committer*.go       what appenders get if a sync fails (committer.fail)
//	active.go zeros.go  the segment that is written to, and which goroutine writes its file
//	roller*.go          when the name of a segment is durable (roller.sealOne, FORMAT.md)
//	shelf*.go           the sealed segments and the bounds
//	removal*.go         which code deletes which file (the list below, and type removal)
//	salvage*.go         what a crash during a salvage leaves (Log.Salvage), and splitting
//	loss*.go            loss notes
//	start*.go           from what a crash left to a whole log, in FORMAT.md's steps
//	quarantine*.go      what is kept for an operator
//	inspect*.go         the log from outside, for commands
//
// The package owns the lock of the data directory and the log directory below it. It
// numbers and names records, segments and runs, and keeps the ledger, which counts every
// record. Package segment owns the format of a segment's file; package vfs provides the
// access to files. Nothing here depends on JSON, HTTP or object storage.
//
// # Words for what leaves the log
//
//   - keep: take a segment off the list and leave its file. Its records are confirmed.
//   - remove: take a segment out of the log. Segment.Remove does so once its records are
//     confirmed.
//   - evict: remove a segment to make room, with a loss note.
//   - replace: remove a segment whose records are also in other segments: the pieces of
//     a salvage, or the halves of a split. A note covers the records that are not.
//   - delete: unlink a file or directory. Only the shelf and the start delete a segment
//     with records, once the name .gone is durable (removal; deleteRedundant for a segment
//     whose records others have). The roller, the start and Close delete a prepared segment,
//     next/, which has no record. The start, a salvage and a split delete salvage/, in which
//     no record is the only copy. Only the losses delete a loss note, once the storage has it
//     or another note includes it. Nothing deletes from the quarantine.
//   - tombstone: the directory of a deleted file, which is kept because its name gives
//     the next seq.
//   - put aside: move to the quarantine what is damaged as a whole, or in the way. If
//     that fails, rename it, or leave it for the next start.
//   - quarantine: copy damaged bytes of a segment to the quarantine.
//   - clear: make the place for a name free, by one of these.
//   - retire: the committer stops writing to a segment and passes it to the roller.
//   - give up: count as lost what the disk can't read even after a restart, and move its
//     file to the quarantine.
//   - abandon: stop waiting for a call of the disk that hangs or has failed.
//   - drop: lose a usage that was accepted (the ledger).
//   - reject: refuse a usage, which is then not accepted (the ledger).
//
// # Invariants
//
//   - Append returns nil only after fdatasync(2) of the records. With SyncInterval it
//     does so after they were written.
//   - The queue draws times and reserves ids under its mutex. It assigns seqs when the
//     committer takes a commit. Ids that the log draws rise with the seqs; times do so
//     while the clock does.
//   - Seqs have no gap except for seqs that were skipped because the disk could not read
//     the end of a segment. The seqs of a failed commit are used again.
//   - Only the committer writes records, and only to the active segment. The roller
//     writes zeros behind them before a segment is active; one goroutine (writeZeros) does
//     so while it is active. The roller cuts the file at the last record (sealOne); the
//     committer does so for an empty segment that a Close leaves, and the start for a
//     segment that a crash left open. Nothing is added to a segment of an earlier run. A
//     salvage or split writes new files (makePieces).
//   - Records of Enqueue, for which no client waits, wait up to maxStagedWait for others to
//     share a commit with, if the disk keeps up. Nothing else waits for them: an append
//     takes them along, and Seal and Close commit them at once.
//   - After a failed write or sync no other record is written to that segment. It ends
//     at its last acknowledged record. The appenders of that commit, and of those that
//     wait behind it, get ErrCommitFailed.
//   - A segment's name is its state. It changes by one rename at a time: next, FIRST,
//     FIRST-LAST, FIRST-LAST.gone. If records are lost, .evicted, .damaged or .lost comes
//     in between. The name FIRST is durable before the segment in front of it is sealed;
//     every other name is durable before the next step.
//   - A loss is noted durably before the ledger counts it.
//   - A kept segment is a cache. The log refuses no append and evicts no segment as long
//     as removing a kept one makes enough room.
//   - Open fails only if its options are invalid, if the data directory can't be created
//     or locked, or if a later version wrote the data (ErrVersion). What can't be read is
//     put aside or left. Open does not fail for a disk that fails or does not answer: the
//     log starts later (start.go). Open and Close wait for no call of the disk longer
//     than CommitTimeout (start_hang.go).
//   - Every record that is known to exist is in exactly one place of the ledger whenever
//     Ledger can be called.
//
// FORMAT.md describes the files byte by byte.
package wal
