// Package shipper turns sealed segments into objects in a bucket or folder.
//
//	wal.Segment -> lines -> zstd -> spool file -> bucket.Store.Put -> confirmed -> Segment.Keep
//	kept segment -> (later) is the object still there? -> Segment.Remove, or Relist, and all again
//	wal.LossNote -> what the storage does not have -> bucket.NewLossNote -> Put -> Log.LossStored
//	wal.Log.Progress, what fails -> bucket.NewHeartbeat -> Put
//
// It owns the order of uploads and what follows a failure (queue), the compression, the
// spool directory, what is done about a key that is taken, and the last look at what the
// storage has confirmed (keeper). It does not own the log: it reads sealed segments and
// removes those that the storage has confirmed, nothing else. Keys, formats and storages are those of package bucket; package audit reads a
// bucket back.
//
// Invariants:
//
//   - A key is a pure function of the segment, and a put replaces nothing but a
//     damaged copy of itself, or an earlier heartbeat: the same segment gives the
//     same object after any crash, never a second one.
//   - A segment is removed only after the storage has proven that it holds its
//     object, or an equal one; with Limits.Keep, and while there is room, twice.
//   - Memory does not grow with the backlog or the size of a segment.
//   - No failure of the storage drops or deletes anything; it is tried for ever.
//   - What becomes of a heartbeat changes nothing else: no upload waits for one.
package shipper
