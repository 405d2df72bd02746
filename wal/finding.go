package wal

// Finding names something that a clean shutdown does not leave. Each occurrence is
// logged in one line and counted in Stats.Findings.
type Finding string

// Findings of a start, or of reading a segment. Each comment gives the state found, and
// then what was done.
const (
	FoundOpenSegment    Finding = "open_segment"    // a segment left open by a crash; sealed
	FoundTornTail       Finding = "torn_tail"       // bytes behind the last whole frame; copied to the quarantine and cut off
	FoundUnnamedNext    Finding = "unnamed_next"    // frames in next/, whose rename a power loss has undone; renamed again
	FoundRemoval        Finding = "removal"         // an interrupted removal; completed
	FoundSalvage        Finding = "salvage"         // an interrupted salvage or split; undone, and repeated afterwards
	FoundDamage         Finding = "damage"          // damaged bytes in a segment; copied to the quarantine, and what checks out is kept
	FoundNoRecords      Finding = "no_records"      // a segment in which no record checks out; put aside
	FoundNoFile         Finding = "no_file"         // a sealed segment without its file; noted as lost and put aside
	FoundUnreadable     Finding = "unreadable"      // a file that the disk can't read; the next start reads it again
	FoundMisnamed       Finding = "misnamed"        // a file whose name does not fit its records; renamed or put aside
	FoundMissing        Finding = "missing"         // acknowledged records that an unsealed segment lacks at its end; noted as lost
	FoundLaterVersion   Finding = "later_version"   // a loss note of a later format version; left in its place
	FoundIdentity       Finding = "identity"        // LOG is missing or damaged; written again
	FoundCopy           Finding = "copy"            // a copy of another machine's log; the log continues under a new log id
	FoundUnreadableNote Finding = "unreadable_note" // a loss note that is damaged, put aside; or that the disk can't read, left in its place
	FoundStray          Finding = "stray"           // an entry that is not part of a log; left in its place, or put aside if it is in the way
)
