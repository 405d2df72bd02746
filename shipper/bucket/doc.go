// Package bucket stores objects in a bucket of S3, or in a folder, and reads them back.
//
//	Object -> Store.Put -> probe (once) -> one PUT -> proof -> nil, ErrExists or *Error
//	key    -> Store.Open -> Reader (lines), Verifier (whole objects), Compare
//
// It owns what others rely on: the keys and partitions (only key.go makes or parses one),
// the columns of a line, the metadata, the loss notes, the heartbeats, the capabilities of a
// storage, the credentials, and the meaning of each failure. It does not own the log, the
// spool, or the reaction to a failure: it imports neither wal nor shipper.
//
// Invariants:
//
//   - An object with lines is exactly one zstd frame with its content checksum, and
//     nothing after it: many readers stop at other content. The storage keeps metadata separately.
//   - A put replaces nothing, unless the object requests it, and returns nil only after
//     the storage has proven that it has the object. A status of success proves nothing.
//   - No usage is sent before the storage has confirmed the requested encryption. A
//     checksum counts as verified only after the storage has refused a wrong one.
//   - Unknown values are empty: a folder has no metadata, only names.
//   - An error of reading is either a *Damage of the object or an error of the storage.
package bucket
