package audit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// Options of an audit. The zero value of each field stands for its default.
type Options struct {
	FromStart bool          // records before a log's first object are missing, too
	Grace     time.Duration // how long a record may be on its way; default 24 h
	Deep      bool          // read every object
	Workers   int           // objects that are read at once; default two for each CPU, at least 4
	Now       time.Time     // default: now
	Node      string        // logs of this node only; default: all
	Accepted  *Accepted     // incidents that are known; default: none
	// Progress is called from one goroutine with how many objects are listed (of 0,
	// which is not known) and then read.
	Progress func(done, of int)
}

// Run reports what the bucket proves about gaps and duplicates: from the
// listing, some metadata and the loss notes, or, if deep, from every object.
//
// It takes 24 bytes of memory for an object, and, if deep, about 3 MiB for
// each that is read at once.
func Run(ctx context.Context, store bucket.Store, o Options) (*Report, error) {
	return run(ctx, &objectCalls{store: store, failed: &failed{reasons: map[string]string{}}}, o, nil)
}

// run audits. Metadata may be of an object that was put while the bucket was listed, and
// confirm what came behind the listing's back: what seems to be missing is listed once
// more, and goes by what was confirmed before.
func run(ctx context.Context, calls *objectCalls, o Options, before map[uint64]confirmed) (*Report, error) {
	if o.Grace == 0 {
		o.Grace = 24 * time.Hour
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	heartbeats, err := readHeartbeats(ctx, calls)
	if err != nil {
		return nil, err
	}
	v, err := takeInventory(ctx, calls, func(n int) { o.Progress(n, 0) })
	if err != nil {
		return nil, err
	}
	a := &audit{Options: o, calls: calls, inventory: v, report: newReport()}
	a.report.Objects, a.report.Notes = v.objects, v.notes
	a.enterHeartbeats(heartbeats)
	logs := make([]*logObjects, 0, len(v.logs))
	for _, l := range v.logs {
		logs = append(logs, l)
	}
	slices.SortFunc(logs, func(a, b *logObjects) int {
		return cmp.Or(cmp.Compare(a.node(), b.node()), cmp.Compare(a.id, b.id))
	})
	if o.Node == "" {
		a.foreign()
	} else {
		logs = a.only(logs)
	}
	for _, l := range logs {
		if before != nil {
			l.confirmed = confirmed{asked: true, below: before[l.id].below}
		}
		if err := a.log(ctx, l); err != nil {
			return nil, err
		}
	}
	if before == nil && a.report.Tallies[Missing].Findings+a.report.Accepted[Missing].Findings > 0 {
		before = map[uint64]confirmed{}
		for _, l := range logs {
			before[l.id] = l.confirmed
		}
		return run(ctx, calls, o, before)
	}
	a.nothing()
	if o.Deep {
		if err := a.deep(ctx, logs); err != nil {
			return nil, err
		}
	}
	a.unreadable()
	a.report.sort()
	return a.report, nil
}

// audit is one that is under way.
type audit struct {
	Options
	calls     *objectCalls
	inventory *inventory
	report    *Report
	found     map[Kind]Tally // of the log that is audited
}

// add reports a finding, in parts if some of it is accepted.
func (a *audit) add(f Finding) {
	for _, part := range a.Accepted.split(f) {
		a.report.add(part)
		if part.Accepted == nil && a.found != nil {
			a.found[part.Kind] = a.found[part.Kind].plus(Tally{1, part.Records()})
		}
	}
}

// foreign reports what is among the objects and none of ours.
func (a *audit) foreign() {
	for _, o := range a.inventory.others {
		kind := Foreign
		if o.wrong {
			kind = Damaged
		}
		if o.problem != "" {
			a.add(Finding{Kind: kind, Keys: []string{o.key}, Reason: o.problem})
		}
	}
	if n := a.inventory.foreign; n > 0 {
		a.report.Tallies[Foreign] = a.report.Tallies[Foreign].plus(Tally{Findings: n})
	}
}

// only returns the logs of the node that is asked for.
func (a *audit) only(logs []*logObjects) (its []*logObjects) {
	a.report.Objects, a.report.Notes = 0, 0
	for _, l := range logs {
		if l.isOf(a.Node) {
			its = append(its, l)
			a.report.Notes += len(l.notes)
			for _, r := range l.runs {
				a.report.Objects += r.objects.Len()
			}
		}
	}
	return its
}

// nothing adds a finding if there are no objects. An audit of nothing proves nothing: the
// prefix may be a wrong one, or all may be gone.
func (a *audit) nothing() {
	for _, l := range a.report.Logs {
		if l.Objects > 0 {
			return
		}
	}
	f := Finding{Kind: Nothing, Node: a.Node, Reason: "no objects of collectord under " + a.calls.store.String()}
	if a.Node != "" {
		f.Reason = "no objects of this node under " + a.calls.store.String()
	}
	a.add(f)
}
