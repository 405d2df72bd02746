package shipper

import (
	"cmp"
	"context"
	"errors"
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

	NotYet   Kind = "not yet"  // a hole that may still be on its way
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

// audit is one that is under way.
type audit struct {
	AuditOptions
	store     Store
	inventory *inventory
	report    *Report
}

func (a *audit) found(f Finding) {
	t := a.report.Tallies[f.Kind]
	t.Findings++
	t.Records += f.Records()
	a.report.Tallies[f.Kind] = t
	if len(a.report.Findings) < maxFindings {
		a.report.Findings = append(a.report.Findings, f)
	}
}

// about begins a finding about some records of a log.
func (l *logbook) about(k Kind, c *chapter, first, last uint64) Finding {
	f := Finding{Kind: k, Node: l.node(), LogID: hexID(l.id), FirstSeq: first, LastSeq: last}
	if c != nil {
		f.Node, f.Runs = c.node, []string{hexID(c.run)}
	}
	return f
}

// node is the latest name of the log's host.
func (l *logbook) node() string {
	switch {
	case len(l.runs) > 0:
		return l.runs[len(l.runs)-1].node
	case len(l.notes) > 0:
		return l.notes[len(l.notes)-1].node
	}
	return ""
}

// hole is a range of seqs that no object covers.
type hole struct {
	first, last uint64
	run         *chapter  // nil: between runs, or outside of all
	leading     bool      // before the first object
	since       time.Time // a later record was received by then
}

// log audits one log.
func (a *audit) log(ctx context.Context, l *logbook) error {
	r := LogReport{LogID: hexID(l.id), Runs: len(l.runs)}
	var holes []hole
	var end uint64 // the last seq of the runs so far
	var furthest *chapter
	for _, c := range l.runs {
		first := c.spans[0].first
		switch {
		case furthest == nil:
			if first > 1 {
				holes = append(holes, hole{first: 1, last: first - 1, leading: true, since: hourEnd(c.spans[0])})
			}
			r.From = hourStart(c.spans[0])
		case first <= end:
			a.forked(l, furthest, c, first, min(end, c.end()))
		case first > end+1:
			holes = append(holes, hole{first: end + 1, last: first - 1, since: hourEnd(c.spans[0])})
		}
		holes = append(holes, a.run(l, c)...)
		if furthest == nil || c.end() > end {
			furthest, end = c, c.end()
		}
		if !slices.Contains(r.Nodes, c.node) {
			r.Nodes = append(r.Nodes, c.node)
		}
		r.Objects += len(c.spans)
		for _, s := range c.spans {
			if s.kind < 0 && hourStart(s).After(r.To) {
				r.To = hourStart(s)
			}
		}
	}
	if len(l.runs) > 0 {
		r.FirstSeq, r.LastSeq = l.runs[0].spans[0].first, end
		r.Records = covered(l)
	} else {
		r.Nodes = []string{l.node()}
	}
	for _, n := range l.notes { // the end of what is known, if it is a note
		if n.last > end {
			holes = append(holes, hole{first: end + 1, last: n.last, since: n.at, leading: len(l.runs) == 0 && end == 0})
			end = n.last
		}
	}
	for _, h := range holes {
		if err := a.hole(ctx, l, h); err != nil {
			return err
		}
	}
	a.report.Logs = append(a.report.Logs, r)
	return nil
}

func hourStart(s span) time.Time { return time.Unix(int64(s.hour)*3600, 0).UTC() }
func hourEnd(s span) time.Time   { return hourStart(s).Add(time.Hour) }

// end is the last seq of the run's objects.
func (c *chapter) end() (last uint64) {
	for _, s := range c.spans {
		last = max(last, s.last())
	}
	return last
}

// covered counts the seqs of which there is a record.
func covered(l *logbook) (n uint64) {
	type part struct{ first, last uint64 }
	var parts []part
	for _, c := range l.runs {
		for _, s := range c.spans { // sorted
			if k := len(parts) - 1; k >= 0 && s.first >= parts[k].first && s.first <= parts[k].last+1 {
				parts[k].last = max(parts[k].last, s.last())
				continue
			}
			parts = append(parts, part{s.first, s.last()})
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.first, b.first) })
	var end uint64
	for _, p := range parts {
		if p.last > end {
			n += p.last - max(p.first-1, end)
			end = p.last
		}
	}
	return n
}

func (a *audit) forked(l *logbook, one, other *chapter, first, last uint64) {
	one.forked, other.forked = true, true
	f := l.about(Forked, other, first, last)
	f.Runs = []string{hexID(one.run), hexID(other.run)}
	for _, c := range []*chapter{one, other} {
		n := 0
		for _, s := range c.spans {
			if s.last() >= first && s.first <= last && n < maxKeys/2 {
				f.Keys = append(f.Keys, a.inventory.key(l, c, s))
				n++
			}
		}
	}
	a.found(f)
}

// run looks at the objects of one run and returns the holes between them.
func (a *audit) run(l *logbook, c *chapter) (holes []hole) {
	holder := c.spans[0] // of the last seq so far
	for i, s := range c.spans[1:] {
		before := c.spans[i]
		end := holder.last()
		switch {
		case s.first == before.first && s.count == before.count && (s.kind == beside || before.kind == beside) && s.kind < 0 && before.kind < 0:
			f := l.about(Conflicting, c, s.first, s.last())
			f.Keys = []string{a.inventory.key(l, c, before), a.inventory.key(l, c, s)}
			a.found(f)
		case s.first <= end:
			f := l.about(Doubled, c, s.first, min(s.last(), end))
			f.Keys = []string{a.inventory.key(l, c, holder), a.inventory.key(l, c, s)}
			a.found(f)
		case s.first > end+1:
			holes = append(holes, hole{first: end + 1, last: s.first - 1, run: c, since: hourEnd(s)})
		}
		if s.last() > end {
			holder = s
		}
	}
	return holes
}

// hole takes out of a hole what is known to be lost, and says what the rest is.
func (a *audit) hole(ctx context.Context, l *logbook, h hole) error {
	next := h.first
	rest := func(last uint64) error {
		if next > last || h.leading && !a.FromStart {
			return nil
		}
		return a.judge(ctx, l, hole{first: next, last: last, run: h.run, since: h.since})
	}
	for _, n := range l.notes[firstNote(l.notes, h.first):] {
		if n.first > h.last {
			break
		}
		if n.last < next || h.run != nil && h.run.forked && n.run != h.run.run && n.run != 0 {
			continue
		}
		if n.first > next {
			if err := rest(n.first - 1); err != nil {
				return err
			}
			next = n.first
		}
		f := l.about(Lost, nil, next, min(n.last, h.last))
		f.Node, f.Reason, f.Keys = n.node, n.reason, []string{name{node: n.node, logID: l.id, run: n.run, first: n.first, last: n.last}.lossKey()}
		if n.run != 0 {
			f.Runs = []string{hexID(n.run)}
		}
		if !n.at.IsZero() {
			f.Since = &n.at
		}
		a.found(f)
		if n.last >= h.last {
			return nil
		}
		next = n.last + 1
	}
	return rest(h.last)
}

// firstNote skips notes that end before seq. Notes may overlap, if barely ever,
// so that it looks back over a few.
func firstNote(notes []lossEntry, seq uint64) int {
	at, _ := slices.BinarySearchFunc(notes, seq, func(n lossEntry, seq uint64) int { return cmp.Compare(n.first, seq) })
	for back := 0; at > 0 && back < 100; back++ {
		at--
	}
	return at
}

// judge says what a hole is that no note explains.
func (a *audit) judge(ctx context.Context, l *logbook, h hole) error {
	confirmed, err := a.confirmedBelow(ctx, l, h.run)
	if err != nil {
		return err
	}
	if h.first < confirmed {
		f := l.about(Missing, h.run, h.first, min(h.last, confirmed-1))
		f.Since = &h.since
		a.found(f)
		h.first = confirmed
	}
	if h.first > h.last {
		return nil
	}
	kind := NotYet
	if a.Now.Sub(h.since) > a.Grace {
		kind = Overdue
	}
	f := l.about(kind, h.run, h.first, h.last)
	f.Since = &h.since
	a.found(f)
	return nil
}

// newest is how many of the newest objects are asked what was confirmed. Uploads
// overtake each other by no more than are under way at once.
const newest = 16

// confirmedBelow is the newest confirmed-below of the log. Where runs are forked
// each speaks for itself.
func (a *audit) confirmedBelow(ctx context.Context, l *logbook, run *chapter) (best uint64, err error) {
	runs := l.runs
	if run != nil && run.forked {
		runs = []*chapter{run}
	}
	if run == nil || !run.forked {
		if l.asked {
			return l.confirmed, nil
		}
		defer func() { l.asked, l.confirmed = err == nil, best }()
	} else {
		if run.asked {
			return run.confirmed, nil
		}
		defer func() { run.asked, run.confirmed = err == nil, best }()
	}
	asked := 0
	for _, c := range slices.Backward(runs) {
		for _, s := range slices.Backward(c.spans) {
			// An object can't confirm more than what lies below it.
			if asked == newest || s.first <= best {
				break
			}
			var m Metadata
			err := patiently(ctx, func() (err error) { m, err = a.store.Stat(ctx, a.inventory.key(l, c, s)); return err })
			if err != nil && !errors.Is(err, ErrNotFound) {
				return 0, err
			}
			best = max(best, min(m.ConfirmedBelow, s.first))
			asked++
		}
	}
	return best, nil
}
