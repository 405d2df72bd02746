package wal

// Finding names what is not as a clean shutdown leaves it. Each is logged in one
// line and counted in Stats.Findings.
type Finding string

// What a start, or reading a segment, can find.
const (
	FoundOpenSegment    Finding = "open_segment"    // left by a crash; sealed
	FoundTornTail       Finding = "torn_tail"       // behind the last whole frame; cut off, kept in the quarantine
	FoundUnnamedNext    Finding = "unnamed_next"    // frames in next: its rename was lost with the power; named
	FoundRemoval        Finding = "removal"         // interrupted; completed
	FoundSalvage        Finding = "salvage"         // interrupted; undone, to be done again
	FoundDamage         Finding = "damage"          // in a segment; what checks out is kept, the rest is in the quarantine
	FoundNoRecords      Finding = "no_records"      // a segment in which nothing checks out; in the quarantine
	FoundNoFile         Finding = "no_file"         // a sealed segment without its file
	FoundUnreadable     Finding = "unreadable"      // the disk does not give it; the next start reads it again
	FoundMisnamed       Finding = "misnamed"        // a name that does not fit the records; renamed, or in the quarantine
	FoundMissing        Finding = "missing"         // acknowledged records at the end of an unsealed segment; noted as lost
	FoundLaterVersion   Finding = "later_version"   // left alone
	FoundIdentity       Finding = "identity"        // LOG is missing or damaged; rebuilt
	FoundCopy           Finding = "copy"            // of another machine's log; goes on under a new log id
	FoundUnreadableNote Finding = "unreadable_note" // of a loss; in the quarantine, or left alone where the disk does not give it
	FoundStray          Finding = "stray"           // not part of a log; left alone
)
