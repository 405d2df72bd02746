// Package bucket keeps objects in a bucket of S3, or in a folder, and reads them back.
//
//	Object -> Store.Put -> probe (once) -> one PUT -> proof -> nil, ErrExists or *Error
//	key    -> Store.Open -> Reader (lines), Verifier (whole objects), Compare
//
// It owns what others rely on: the keys and partitions (key.go, the only place where
// one is made or read), the columns of a line, the metadata, the loss notes, what a
// storage can do, the credentials, and what each failure means. It does not own the
// log, the spool, or what is to be done after a failure, and knows none of them: it
// imports neither wal nor shipper.
//
// Invariants:
//
//   - An object with lines is exactly one zstd frame with its content checksum, and
//     nothing behind it: many readers stop at anything else. Metadata is beside it.
//   - A put replaces nothing, unless the object says so, and returns nil only once the
//     storage has proven that it holds the object. A status of success proves nothing.
//   - What is not known is empty: a folder has no metadata, only names.
//   - An error of reading is a *Damage of the object, or the storage's, never in doubt.
package bucket
