// Package segment reads and writes one segment of the log: its name, its file, and the
// frames and records in that file.
//
//	Create -> Writer.Append, Sync -> Trim, Close    one goroutine writes
//	Records       reads a sealed segment, and stops at the first damage
//	Wanted.Scan   finds every valid frame, whatever else is damaged
//	Scan.Copy     writes a piece that a scan has found as a new segment
//
// It owns the format of the file, which FORMAT.md beside package wal describes. It is the
// only package that imports the log library, github.com/tidwall/wal. Package wal decides
// which segments exist, what happens to them, and who reads them.
//
// Invariants:
//
//   - Only the Writer that created a file appends to it. A copy is a new file.
//   - A length, seq or record is used only after its checksum is verified. Peek is the
//     one exception: it uses a frame's header without verifying the frame's records.
//   - A page that the disk can't read reads as zeros and is reported as unreadable. Any
//     other error of the disk ends the reading.
package segment
