// Package shipper turns sealed segments into objects in a bucket or folder.
//
//	wal.Segment -> lines -> zstd -> spool file -> bucket.Store.Put -> confirmed -> Segment.Keep
//	kept segment -> (later) is the object still there? -> Segment.Remove, or Relist and another upload
//	wal.LossNote -> the records that the storage lacks -> bucket.NewLossNote -> Put -> Log.LossStored
//	wal.Log.Progress, troubles -> bucket.NewHeartbeat -> Put
//
// It owns the order of uploads and the reaction to failures (queue), the compression, the
// spool directory, the handling of a key that is taken, and the later look at confirmed
// objects (keeper). It does not own the log: it only reads sealed segments and removes those
// that are confirmed. Package bucket owns keys, formats and storages; package audit reads a
// bucket back.
//
// Invariants:
//
//   - A key depends only on the segment, and a put replaces only a damaged copy of the
//     same object, or an earlier heartbeat. So the same segment gives the same object
//     after any crash, never a second one.
//   - A segment is removed only after the storage has proven that it has its object, or
//     an equal one. With Limits.Keep, the storage has to prove it again later, unless
//     the log needs the room.
//   - Memory does not grow with the backlog or the size of a segment.
//   - No failure of the storage drops or deletes anything: each upload is repeated until
//     it succeeds.
//   - A heartbeat affects nothing else: no upload waits for one.
package shipper
