package shipper

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Kind says what an audit found.
type Kind string

// Kinds of findings. The second group is not wrong.
const (
	Missing     Kind = "missing"     // a hole below what was once confirmed to be complete
	Overdue     Kind = "overdue"     // a hole that should have been filled by now
	Doubled     Kind = "doubled"     // the same records in two objects
	Forked      Kind = "forked"      // other records under the same seqs: a restored snapshot, or a clone
	Conflicting Kind = "conflicting" // two contents for one name
	Truncated   Kind = "truncated"   // an object whose end is cut off (deep)
	Damaged     Kind = "damaged"     // an object that is not what it says (deep)
	Unreadable  Kind = "unreadable"  // the storage does not give it (deep)

	NotYet   Kind = "not_yet"  // a hole that may still be on its way
	Lost     Kind = "lost"     // known: there is a note
	Foreign  Kind = "foreign"  // no object of collectord
	Vanished Kind = "vanished" // deleted while the audit read (deep)
)

// Wrong tells what must be looked into from what is as it is.
func (k Kind) Wrong() bool {
	switch k {
	case NotYet, Lost, Foreign, Vanished:
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
	Since    *time.Time `json:"since,omitempty"`  // a hole: when a later record was received at the latest; lost: when it was noted
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
	Nodes    []string  `json:"nodes"`
	LogID    string    `json:"log_id"`
	Runs     int       `json:"runs"`
	Objects  int       `json:"objects"`
	Records  uint64    `json:"records"` // each counted once
	FirstSeq uint64    `json:"first_seq,omitempty"`
	LastSeq  uint64    `json:"last_seq,omitempty"`
	From     time.Time `json:"from"` // the hours of the first and the last object
	To       time.Time `json:"to"`
}

// Tally counts the findings of a kind and the records they are about.
type Tally struct {
	Findings int    `json:"findings"`
	Records  uint64 `json:"records"`
}

// Report is what an audit found.
type Report struct {
	Findings []Finding // at most maxFindings; those of a kind together, what is wrong first
	Tallies  map[Kind]Tally
	Logs     []LogReport
	Objects  int
	Notes    int // of losses

	// Of a deep audit.
	Read     int   // objects
	RawBytes int64 // of lines
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

// Bounds of what a report keeps. What is beyond them is counted.
const (
	maxFindings = 50_000
	maxKeys     = 4
)

// AuditOptions of an audit. The zero value of each field stands for its default.
type AuditOptions struct {
	FromStart bool          // records before a log's first object are missing, too
	Grace     time.Duration // how long a record may be on its way; default 24 h
	Deep      bool          // read every object
	Workers   int           // objects that are read at once; default two for each CPU, at least 4
	Now       time.Time     // default: now
	// Progress is told, from one goroutine, how many objects are listed (of 0,
	// which is not known) and then read.
	Progress func(done, of int)
}

// Audit tells what the bucket proves about holes and duplicates: from the
// listing, some metadata and the loss notes, or, if deep, from every object.
//
// It takes 24 to 48 bytes of memory for an object, and, if deep, about 3 MiB for
// each that is read at once.
func Audit(ctx context.Context, store Store, o AuditOptions) (*Report, error) {
	if o.Grace == 0 {
		o.Grace = 24 * time.Hour
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	var v *inventory
	err := patiently(ctx, func() (err error) {
		v, err = takeInventory(ctx, store, func(n int) { o.Progress(n, 0) })
		return err
	})
	if err != nil {
		return nil, err
	}
	a := &audit{AuditOptions: o, store: store, inventory: v, report: &Report{Tallies: map[Kind]Tally{}, Objects: v.objects, Notes: v.notes}}
	logs := make([]*logbook, 0, len(v.logs))
	for _, l := range v.logs {
		logs = append(logs, l)
	}
	slices.SortFunc(logs, func(a, b *logbook) int {
		return cmp.Or(cmp.Compare(a.node(), b.node()), cmp.Compare(a.id, b.id))
	})
	for _, l := range logs {
		if err := a.log(ctx, l); err != nil {
			return nil, err
		}
	}
	for _, s := range v.strays {
		if s.what != "" {
			a.found(Finding{Kind: Foreign, Keys: []string{s.key}, Reason: s.what})
		}
	}
	if v.foreign > 0 {
		t := a.report.Tallies[Foreign]
		t.Findings += v.foreign
		a.report.Tallies[Foreign] = t
	}
	if o.Deep {
		if err := a.deep(ctx, logs); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(a.report.Findings, func(a, b Finding) int { return cmp.Compare(rank(a.Kind), rank(b.Kind)) })
	return a.report, nil
}

// Kinds are all kinds, in the order in which they are told.
func Kinds() []Kind {
	return []Kind{Missing, Overdue, Doubled, Forked, Conflicting, Truncated, Damaged, Unreadable, NotYet, Lost, Vanished, Foreign}
}

func rank(k Kind) int { return slices.Index(Kinds(), k) }
