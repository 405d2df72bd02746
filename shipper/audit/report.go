package audit

import (
	"cmp"
	"math"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// Kind is the kind of a finding, or the state of a host.
type Kind string

// Kinds of findings. Those of the second group are not wrong.
const (
	Failed      Kind = "error"       // one of several destinations can't be read
	Missing     Kind = "missing"     // a gap below the seq up to which all records were confirmed
	Gone        Kind = "gone"        // a whole log: only its heartbeat is left
	Overdue     Kind = "overdue"     // a gap that should be filled by now
	Doubled     Kind = "doubled"     // the same records in two objects
	Forked      Kind = "forked"      // different records under the same seqs: a restored snapshot, or a clone
	Conflicting Kind = "conflicting" // two objects with the same seqs and different content
	Truncated   Kind = "truncated"   // an object whose end is cut off (deep)
	Damaged     Kind = "damaged"     // an object that contradicts its name or metadata (deep), or a name that is impossible
	Unreadable  Kind = "unreadable"  // the storage does not return it, or its metadata
	Absent      Kind = "absent"      // an expected node without objects and heartbeat
	Silent      Kind = "silent"      // an expected node whose heartbeat is too old, or from the future
	Nothing     Kind = "nothing"     // no records were found at all

	NotYet  Kind = "not_yet" // a gap that may still be filled
	Earlier Kind = "earlier" // before the first object of a log: expired, or lost
	Lost    Kind = "lost"    // known: there is a loss note
	Foreign Kind = "foreign" // collectord did not write it
	Deleted Kind = "deleted" // deleted during the audit (deep)
)

// Wrong reports whether the kind needs attention.
func (k Kind) Wrong() bool {
	switch k {
	case NotYet, Earlier, Lost, Foreign, Deleted, Unheard, Fine, Retired, Replaced, Away:
		return false
	}
	return true
}

// Finding is one result of an audit.
type Finding struct {
	Kind     Kind       `json:"finding"`
	Node     string     `json:"node,omitempty"`
	LogID    string     `json:"log_id,omitempty"`
	Runs     []string   `json:"runs,omitempty"`
	FirstSeq uint64     `json:"first_seq,omitempty"`
	LastSeq  uint64     `json:"last_seq,omitempty"`
	Keys     []string   `json:"keys,omitempty"`   // at most maxKeys
	Reason   string     `json:"reason,omitempty"` // for people
	Since    *time.Time `json:"since,omitempty"`  // gap: a later record was received no later than this; lost: time of the note
	// Heartbeat is the time of the heartbeat that proves the finding. For a gap after all
	// objects, Since is the receipt time of the oldest record that waited at the time of the
	// heartbeat.
	Heartbeat   *time.Time  `json:"heartbeat_at,omitempty"`
	Accepted    *Acceptance `json:"accepted,omitempty"`    // set if the finding was accepted, so that it is no longer wrong
	Destination string      `json:"destination,omitempty"` // set if several were audited
}

// Records returns how many seqs the finding covers.
func (f *Finding) Records() uint64 {
	if f.FirstSeq == 0 {
		return 0
	}
	return f.LastSeq - f.FirstSeq + 1
}

// LogReport is what the bucket contains of one log.
type LogReport struct {
	Nodes    []string `json:"nodes"`
	LogID    string   `json:"log_id"`
	Runs     int      `json:"runs"`
	Objects  int      `json:"objects"`
	Records  uint64   `json:"records"` // each seq counted once
	FirstSeq uint64   `json:"first_seq,omitempty"`
	LastSeq  uint64   `json:"last_seq,omitempty"`
	// ConfirmedBelow is the seq below which the host had confirmed all records; 0:
	// unknown, or not looked up because there was no gap.
	ConfirmedBelow uint64    `json:"confirmed_below,omitempty"`
	From           time.Time `json:"from,omitzero"` // hour of the first object; zero: unknown, for example outside all partitions
	To             time.Time `json:"to,omitzero"`   // hour of the last object; zero: unknown

	// Found tallies the unaccepted findings about its records, without those of a deep
	// audit.
	Found map[Kind]Tally `json:"-"`

	Heartbeat   *bucket.Heartbeat `json:"heartbeat,omitempty"`   // the latest
	Destination string            `json:"destination,omitempty"` // set if several were audited
}

// Tally counts the findings of a kind and the records they cover.
type Tally struct {
	Findings int    `json:"findings"`
	Records  uint64 `json:"records"`
}

func (t Tally) plus(o Tally) Tally {
	// Forged names can stand for more records than a uint64 counts.
	return Tally{t.Findings + o.Findings, t.Records + min(o.Records, math.MaxUint64-t.Records)}
}

// Report is the result of an audit.
type Report struct {
	Findings []Finding // at most maxFindings; grouped by kind, wrong ones first, accepted ones last
	Tallies  map[Kind]Tally
	Accepted map[Kind]Tally // wrong but accepted findings; not in Tallies
	Logs     []LogReport
	Objects  int
	Notes    int // loss notes

	Heartbeats int
	LastHeard  map[string]LastHeard // by node

	// Unconfirmed counts the logs with gaps whose confirmed seq is neither in metadata nor
	// in a heartbeat. Their gaps are NotYet or Overdue, never Missing.
	Unconfirmed int

	// Set by a deep audit only.
	Read       int   // number of objects
	RawBytes   int64 // bytes of lines
	NoMetadata int   // objects that were read and whose SHA-256 is unknown
}

// Wrong reports whether any unaccepted finding needs attention.
func (r *Report) Wrong() bool {
	for k, t := range r.Tallies {
		if k.Wrong() && t.Findings > 0 {
			return true
		}
	}
	return false
}

// Failed returns the findings about destinations that could not be read.
func (r *Report) Failed() (all []Finding) {
	for _, f := range r.Findings {
		if f.Kind == Failed {
			all = append(all, f)
		}
	}
	return all
}

// Limits of the content of a report. Findings beyond the limit are only counted.
const (
	maxFindings = 50_000
	maxKeys     = 4
)

// Kinds returns all kinds of findings, in report order.
func Kinds() []Kind {
	return []Kind{
		Failed, Nothing, Absent, Silent, Missing, Gone, Overdue, Doubled, Forked, Conflicting, Truncated, Damaged, Unreadable,
		NotYet, Earlier, Lost, Deleted, Foreign,
	}
}

func (f *Finding) rank() int {
	at := slices.Index(Kinds(), f.Kind)
	if f.Accepted != nil {
		at += len(Kinds())
	}
	return at
}

func newReport() *Report {
	return &Report{Tallies: map[Kind]Tally{}, Accepted: map[Kind]Tally{}, LastHeard: map[string]LastHeard{}}
}

// add adds a finding.
func (r *Report) add(f Finding) {
	f.Since, f.Heartbeat = plausibleTime(f.Since), plausibleTime(f.Heartbeat)
	tallies := r.Tallies
	if f.Accepted != nil {
		tallies = r.Accepted
	}
	tallies[f.Kind] = tallies[f.Kind].plus(Tally{1, f.Records()})
	if len(r.Findings) < maxFindings || f.Kind == Failed {
		r.Findings = append(r.Findings, f)
	}
}

// plausibleTime returns the time in UTC, or nil if it is unknown or implausible: untrusted
// objects contain any time, and JSON allows only years of four digits.
func plausibleTime(t *time.Time) *time.Time {
	if t == nil || t.IsZero() {
		return nil
	}
	u := t.UTC()
	if u.Year() < 0 || u.Year() > 9999 {
		return nil
	}
	return &u
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.rank(), b.rank()) })
}
