// Package audit reads the contents of buckets. Run reports gaps and duplicates, RunFleet
// reports the state of the hosts, and a Selection selects records.
//
//	heartbeats, then listing -> keys -> inventory (logs, runs, objects) -> gaps
//	gaps -> loss notes, confirmed_below -> findings -> accepted or not
//	                   deep: each object -> bucket.Verifier -> findings
//	heartbeats of all destinations -> hosts (with AuditObjects: plus findings of Run) -> states
//	Selection -> the hours it needs -> keys -> bucket.Reader -> lines
//
// The package owns the rules by which a gap is Missing, Overdue, NotYet or Lost, the rules
// by which a host is silent or out of service, and the order in which records are read.
// Package bucket owns keys, metadata, and how an object is read and verified. This package
// has no access to a log or a shipper: each result follows from the bucket alone.
//
// Invariants:
//
//   - The bucket is never modified.
//   - Memory stays within the limits that Run documents, for any number of objects.
//   - Facts that can't be known are reported as unknown. A gap is called Missing only if
//     metadata or a heartbeat proves it; objects in a folder have no metadata.
//   - If the storage lists an object but does not return it, or returns a broken response,
//     the object is reported, and all others are read. Of several destinations, one that
//     can't be read is reported, and all others are read.
package audit
