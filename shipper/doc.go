// Package shipper turns sealed segments into objects in a bucket or folder.
//
//	wal.Segment -> lines -> zstd -> spool file -> Store.Put -> confirmed -> Segment.Remove
//
// and reads the bucket back: Selection picks records, Audit proves what is there.
//
// It owns the object format, the keys, the spool directory and the storage
// clients. It does not own the log: it reads sealed segments and removes those
// that the storage has confirmed, nothing else.
//
// Invariants:
//
//   - A key is a pure function of the segment, and a put replaces nothing but a
//     damaged copy of itself: the same segment gives the same object after any
//     crash, never a second one.
//   - A segment is removed only after the storage has proven that it holds its
//     object, or an equal one. A status of success proves nothing.
//   - Memory does not grow with the backlog or the size of a segment.
//   - Reading changes nothing, and takes no more memory than it says, however much
//     there is to read.
//   - No failure of the storage drops or deletes anything; it is tried for ever.
package shipper
