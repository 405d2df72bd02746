// Package segment is one segment of the log and nothing else: its names, its file,
// the frames and records in it.
//
//	Create -> Writer.Append, Sync -> Trim, Close         one goroutine writes
//	Records   reads a sealed segment, and stops at the first thing that is wrong
//	Wanted.Scan   finds every frame that checks out, whatever is wrong
//	Scan.Copy     writes what it found as a segment of its own
//
// It owns the format, byte by byte (FORMAT.md beside package wal), and the
// underlying log, github.com/tidwall/wal, which nothing else imports. It does not
// know which segments there are, what becomes of them, or who reads them.
//
// Invariants:
//
//   - Only the Writer that created a file adds to it. A copy is a new file.
//   - No length, seq or record is believed before its checksum is verified.
//   - What the disk does not give reads as zeros, page by page, and is reported
//     as unreadable; every other error of the disk ends the reading.
package segment
