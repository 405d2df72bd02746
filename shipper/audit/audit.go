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
	// Progress is called from one goroutine with how many objects are listed (of 0,
	// which is not known) and then read.
	Progress func(done, of int)
}

// Run reports what the bucket proves about gaps and duplicates: from the
// listing, some metadata and the loss notes, or, if deep, from every object.
//
// It takes 24 to 48 bytes of memory for an object, and, if deep, about 3 MiB for
// each that is read at once.
func Run(ctx context.Context, store bucket.Store, o Options) (*Report, error) {
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
	err := bucket.Retry(ctx, func() (err error) {
		v, err = takeInventory(ctx, store, func(n int) { o.Progress(n, 0) })
		return err
	})
	if err != nil {
		return nil, err
	}
	a := &audit{Options: o, store: store, inventory: v, report: &Report{Tallies: map[Kind]Tally{}, Objects: v.objects, Notes: v.notes}}
	logs := make([]*logObjects, 0, len(v.logs))
	for _, l := range v.logs {
		logs = append(logs, l)
	}
	slices.SortFunc(logs, func(a, b *logObjects) int {
		return cmp.Or(cmp.Compare(a.node(), b.node()), cmp.Compare(a.id, b.id))
	})
	for _, l := range logs {
		if err := a.log(ctx, l); err != nil {
			return nil, err
		}
	}
	for _, o := range v.others {
		if o.problem != "" {
			a.add(Finding{Kind: Foreign, Keys: []string{o.key}, Reason: o.problem})
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

// audit is one that is under way.
type audit struct {
	Options
	store     bucket.Store
	inventory *inventory
	report    *Report
}

// add reports a finding.
func (a *audit) add(f Finding) {
	t := a.report.Tallies[f.Kind]
	t.Findings++
	t.Records += f.Records()
	a.report.Tallies[f.Kind] = t
	if len(a.report.Findings) < maxFindings {
		a.report.Findings = append(a.report.Findings, f)
	}
}
