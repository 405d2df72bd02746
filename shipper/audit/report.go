package audit

import (
	"cmp"
	"math"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// Kind is what an audit found.
type Kind string

// Kinds of findings. The second group is not wrong.
const (
	Failed      Kind = "error"       // one of several destinations can't be read
	Missing     Kind = "missing"     // a gap below what was once confirmed to be complete
	Gone        Kind = "gone"        // a whole log: there is its heartbeat, and nothing else
	Overdue     Kind = "overdue"     // a gap that should have been filled by now
	Doubled     Kind = "doubled"     // the same records in two objects
	Forked      Kind = "forked"      // other records under the same seqs: a restored snapshot, or a clone
	Conflicting Kind = "conflicting" // two contents for one name
	Truncated   Kind = "truncated"   // an object whose end is cut off (deep)
	Damaged     Kind = "damaged"     // an object that is not what it says (deep), or that can't be
	Unreadable  Kind = "unreadable"  // the storage does not give it, or its metadata
	Absent      Kind = "absent"      // an expected node of which nothing is there
	Silent      Kind = "silent"      // an expected node whose heartbeat is too old
	Nothing     Kind = "nothing"     // no records were found at all

	NotYet  Kind = "not_yet" // a gap that may still be on its way
	Earlier Kind = "earlier" // before all there is of a log: expired, or lost
	Lost    Kind = "lost"    // known: there is a note
	Foreign Kind = "foreign" // no object of collectord
	Deleted Kind = "deleted" // while the audit read (deep)
)

// Wrong reports whether somebody must look into it.
func (k Kind) Wrong() bool {
	switch k {
	case NotYet, Earlier, Lost, Foreign, Deleted, Unheard, Fine, Retired, Replaced, Away:
		return false
	}
	return true
}

// Finding is one thing that an audit found.
type Finding struct {
	Kind     Kind       `json:"finding"`
	Node     string     `json:"node,omitempty"`
	LogID    string     `json:"log_id,omitempty"`
	Runs     []string   `json:"runs,omitempty"`
	FirstSeq uint64     `json:"first_seq,omitempty"`
	LastSeq  uint64     `json:"last_seq,omitempty"`
	Keys     []string   `json:"keys,omitempty"`   // at most maxKeys
	Reason   string     `json:"reason,omitempty"` // for people
	Since    *time.Time `json:"since,omitempty"`  // a gap: when a later record was received at the latest; lost: when it was noted
	// Heartbeat is the time of the heartbeat that shows it. Of a gap beyond all objects,
	// Since is when the oldest record was received that waited then.
	Heartbeat   *time.Time  `json:"heartbeat_at,omitempty"`
	Accepted    *Acceptance `json:"accepted,omitempty"`    // it is known, and not wrong any more
	Destination string      `json:"destination,omitempty"` // where several were audited
}

// Records is how many seqs the finding is about.
func (f *Finding) Records() uint64 {
	if f.FirstSeq == 0 {
		return 0
	}
	return f.LastSeq - f.FirstSeq + 1
}

// LogReport is what the bucket holds of one log.
type LogReport struct {
	Nodes    []string `json:"nodes"`
	LogID    string   `json:"log_id"`
	Runs     int      `json:"runs"`
	Objects  int      `json:"objects"`
	Records  uint64   `json:"records"` // each counted once
	FirstSeq uint64   `json:"first_seq,omitempty"`
	LastSeq  uint64   `json:"last_seq,omitempty"`
	// ConfirmedBelow is the seq below which the host had confirmed all; 0: not known,
	// or not asked, since there was no gap.
	ConfirmedBelow uint64    `json:"confirmed_below,omitempty"`
	From           time.Time `json:"from,omitzero"` // the hours of the first and the last object
	To             time.Time `json:"to,omitzero"`   // zero: not known, as outside of all partitions

	// Found tallies the findings that are about its records and not accepted, but for those
	// of reading objects.
	Found map[Kind]Tally `json:"-"`

	Heartbeat   *bucket.Heartbeat `json:"heartbeat,omitempty"`   // the latest
	Destination string            `json:"destination,omitempty"` // where several were audited
}

// Tally counts the findings of a kind and the records they are about.
type Tally struct {
	Findings int    `json:"findings"`
	Records  uint64 `json:"records"`
}

func (t Tally) plus(o Tally) Tally {
	// Hostile names can stand for more records than can be counted.
	return Tally{t.Findings + o.Findings, t.Records + min(o.Records, math.MaxUint64-t.Records)}
}

// Report is what an audit found.
type Report struct {
	Findings []Finding // at most maxFindings; those of a kind together, what is wrong first, what is accepted last
	Tallies  map[Kind]Tally
	Accepted map[Kind]Tally // of what was wrong and is known; not in Tallies
	Logs     []LogReport
	Objects  int
	Notes    int // of losses

	Heartbeats int
	LastHeard  map[string]LastHeard // by node

	// Unconfirmed counts the logs with gaps where neither metadata nor a heartbeat has what
	// their hosts had confirmed: such gaps are NotYet or Overdue, never Missing.
	Unconfirmed int

	// Of a deep audit.
	Read       int   // objects
	RawBytes   int64 // of lines
	NoMetadata int   // objects read whose SHA-256 is not known
}

// Wrong reports whether there is anything to look into.
func (r *Report) Wrong() bool {
	for k, t := range r.Tallies {
		if k.Wrong() && t.Findings > 0 {
			return true
		}
	}
	return false
}

// Failed returns the findings of destinations of which nothing is known.
func (r *Report) Failed() (all []Finding) {
	for _, f := range r.Findings {
		if f.Kind == Failed {
			all = append(all, f)
		}
	}
	return all
}

// Bounds of what a report keeps. What is beyond them is counted.
const (
	maxFindings = 50_000
	maxKeys     = 4
)

// Kinds are all kinds, in the order in which they are reported.
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

// add enters a finding.
func (r *Report) add(f Finding) {
	f.Since, f.Heartbeat = sayable(f.Since), sayable(f.Heartbeat)
	tallies := r.Tallies
	if f.Accepted != nil {
		tallies = r.Accepted
	}
	tallies[f.Kind] = tallies[f.Kind].plus(Tally{1, f.Records()})
	if len(r.Findings) < maxFindings || f.Kind == Failed {
		r.Findings = append(r.Findings, f)
	}
}

// sayable is the time, in UTC, or nil if it is not known, or nobody can have meant it:
// strangers write what they like, and JSON has four digits for a year.
func sayable(t *time.Time) *time.Time {
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
