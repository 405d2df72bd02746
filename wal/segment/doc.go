// Package segment reads and writes one segment of the log: its names, its file, the
// frames and records in it.
//
//	Create -> Writer.Append, Sync -> Trim, Close    one goroutine writes
//	Records       reads a sealed segment, and stops at the first damage
//	Wanted.Scan   finds every frame that checks out, whatever is damaged
//	Scan.Copy     writes what a scan has found as a segment of its own
//
// It owns the format, byte by byte (FORMAT.md beside package wal), and the log library,
// github.com/tidwall/wal, which no other package imports. It does not know which
// segments there are, what becomes of them, or who reads them.
//
// Invariants:
//
//   - Only the Writer that created a file adds to it. A copy is a new file.
//   - No length, seq or record is trusted before its checksum is verified; only Peek uses
//     a frame's header without its records.
//   - A page that the disk can't read reads as zeros and is reported as unreadable.
//     Any other error of the disk ends the reading.
package segment
