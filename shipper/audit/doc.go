// Package audit reads a bucket back: Run proves what is there, RunFleet reports how its
// hosts are, and a Selection picks records.
//
//	heartbeats, then listing -> keys -> inventory (logs, runs, objects) -> gaps
//	gaps -> loss notes, confirmed_below -> findings -> what is accepted
//	                   deep: each object -> bucket.Verifier -> findings
//	heartbeats of all destinations -> hosts (with holes: and what Run finds) -> states
//	Selection -> the hours it needs -> keys -> bucket.Reader -> lines
//
// It owns the rules by which a gap is missing, overdue, not yet there or lost, and a host
// silent or of the past, and the order in which records are read. It does not own keys,
// metadata or how an object is read and checked (package bucket), and knows no log and no
// shipper: all it says follows from the bucket alone.
//
// Invariants:
//
//   - Nothing in the bucket is changed.
//   - Memory is what Run says, however much there is to read.
//   - What can't be known is said, never guessed: where there is neither metadata, as in
//     a folder, nor a heartbeat, no gap is called missing.
//   - An object that the storage does not give, or answers for as no storage does, is
//     named, and the others are read: it ends nothing as long as it is listed. So is a
//     destination of several that can't be read.
package audit
