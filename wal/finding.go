package wal

// Finding names a thing that a clean shutdown does not leave. Each occurrence is logged
// in one line and counted in Stats.Findings.
type Finding string

// Findings of a start, or of reading a segment.
const (
	FoundOpenSegment    Finding = "open_segment"    // left open by a crash; sealed
	FoundTornTail       Finding = "torn_tail"       // bytes behind the last whole frame; cut off, and copied to the quarantine
	FoundUnnamedNext    Finding = "unnamed_next"    // frames in next/, whose rename a power loss undid; named
	FoundRemoval        Finding = "removal"         // an interrupted removal; completed
	FoundSalvage        Finding = "salvage"         // an interrupted salvage or split; undone, to be repeated
	FoundDamage         Finding = "damage"          // in a segment; what checks out is kept, the rest is in the quarantine
	FoundNoRecords      Finding = "no_records"      // a segment in which nothing checks out; put aside
	FoundNoFile         Finding = "no_file"         // a sealed segment without its file; noted as lost, put aside
	FoundUnreadable     Finding = "unreadable"      // the disk can't read it; the next start reads it again
	FoundMisnamed       Finding = "misnamed"        // a name that does not fit the records; renamed, or put aside
	FoundMissing        Finding = "missing"         // acknowledged records that are not at the end of an unsealed segment; noted as lost
	FoundLaterVersion   Finding = "later_version"   // a loss note of a later format version; left alone
	FoundIdentity       Finding = "identity"        // LOG is missing or damaged; written anew
	FoundCopy           Finding = "copy"            // a copy of another machine's log; continues under a new log id
	FoundUnreadableNote Finding = "unreadable_note" // a damaged loss note, put aside; or one that the disk can't read, left alone
	FoundStray          Finding = "stray"           // not part of a log; left alone, or put aside if it is in the way
)
