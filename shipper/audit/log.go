package audit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// newFinding returns a new finding about records of a log.
func (l *logObjects) newFinding(k Kind, run *runObjects, first, last uint64) Finding {
	f := Finding{Kind: k, Node: l.node(), LogID: bucket.HexID(l.id), FirstSeq: first, LastSeq: last}
	if run != nil {
		f.Node, f.Runs = run.node, []string{bucket.HexID(run.run)}
	}
	return f
}

// hasNode reports whether the log's host has ever had this name.
func (l *logObjects) hasNode(node string) bool {
	return l.heartbeat != nil && l.heartbeat.Node == node ||
		slices.ContainsFunc(l.runs, func(r *runObjects) bool { return r.node == node }) ||
		slices.ContainsFunc(l.notes, func(n lossNote) bool { return n.Node == node })
}

// node returns the latest name of the log's host.
func (l *logObjects) node() string {
	switch {
	case len(l.runs) > 0:
		return l.runs[len(l.runs)-1].node
	case len(l.notes) > 0:
		return l.notes[len(l.notes)-1].Node
	case l.heartbeat != nil:
		return l.heartbeat.Node
	}
	return ""
}

// checkLog audits one log.
func (a *audit) checkLog(ctx context.Context, l *logObjects) error {
	a.logFindings = map[Kind]Tally{}
	r := LogReport{LogID: bucket.HexID(l.id), Runs: len(l.runs), Heartbeat: l.heartbeat, Found: a.logFindings}
	var gaps []gap
	var end uint64 // the last seq of the runs before this one
	var furthest *runObjects
	for _, run := range l.runs {
		object := run.objects.first()
		first := object.first
		switch {
		case furthest == nil:
			if first > 1 {
				gaps = append(gaps, gap{first: 1, last: first - 1, leading: true, since: hourEnd(object)})
			}
			r.From = hourStart(object)
		case first <= end:
			a.addForked(l, furthest, run, first, min(end, run.end()))
		case first > end+1:
			gaps = append(gaps, gap{first: end + 1, last: first - 1, since: hourEnd(object)})
		}
		gaps = append(gaps, a.checkRun(l, run)...)
		if furthest == nil || run.end() > end {
			furthest, end = run, run.end()
		}
		if !slices.Contains(r.Nodes, run.node) {
			r.Nodes = append(r.Nodes, run.node)
		}
		r.Objects += run.objects.Len()
		for o := range run.objects.all() {
			if o.kind < 0 && hourStart(o).After(r.To) {
				r.To = hourStart(o)
			}
		}
	}
	if len(l.runs) > 0 {
		r.FirstSeq, r.LastSeq = l.runs[0].objects.first().first, end
		r.Records = countRecords(l)
	} else {
		r.Nodes = []string{l.node()}
	}
	for _, n := range l.notes { // a note can lie after all objects
		if n.LastSeq > end {
			gaps = append(gaps, gap{first: end + 1, last: n.LastSeq, since: n.at, leading: len(l.runs) == 0 && end == 0})
			end = n.LastSeq
		}
	}
	gaps = append(gaps, a.gapsAfterObjects(l, end)...)
	for _, g := range gaps {
		if err := a.classifyGap(ctx, l, g); err != nil {
			return err
		}
	}
	if r.ConfirmedBelow = l.confirmed.below; l.confirmed.known && r.ConfirmedBelow == 0 {
		a.report.Unconfirmed++
	}
	if plausibleTime(&r.From) == nil {
		r.From = time.Time{}
	}
	a.report.Logs = append(a.report.Logs, r)
	a.logFindings = nil
	return nil
}

func hourStart(o objectRef) time.Time { return time.Unix(int64(o.hour)*3600, 0).UTC() }
func hourEnd(o objectRef) time.Time   { return hourStart(o).Add(time.Hour) }

// end returns the last seq of the run's objects.
func (run *runObjects) end() (last uint64) {
	for o := range run.objects.all() {
		last = max(last, o.last())
	}
	return last
}

// countRecords returns how many seqs have a record.
func countRecords(l *logObjects) (n uint64) {
	type part struct{ first, last uint64 }
	var parts []part
	for _, run := range l.runs {
		for o := range run.objects.all() { // sorted
			if k := len(parts) - 1; k >= 0 && o.first >= parts[k].first && o.first <= parts[k].last+1 {
				parts[k].last = max(parts[k].last, o.last())
				continue
			}
			parts = append(parts, part{o.first, o.last()})
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

func (a *audit) addForked(l *logObjects, one, other *runObjects, first, last uint64) {
	one.forked, other.forked = true, true
	f := l.newFinding(Forked, other, first, last)
	f.Runs = []string{bucket.HexID(one.run), bucket.HexID(other.run)}
	for _, run := range []*runObjects{one, other} {
		n := 0
		for o := range run.objects.all() {
			if o.last() >= first && o.first <= last && n < maxKeys/2 {
				f.Keys = append(f.Keys, a.inventory.key(l, run, o))
				n++
			}
		}
	}
	a.add(f)
}

// checkRun reports duplicate and conflicting objects of one run, and returns the gaps
// between its objects.
func (a *audit) checkRun(l *logObjects, run *runObjects) (gaps []gap) {
	before := run.objects.first()
	furthest := before // the object with the highest last seq
	for i := 1; i < run.objects.Len(); i++ {
		o := *run.objects.at(i)
		end := furthest.last()
		switch {
		case o.first == before.first && o.count == before.count && (o.kind == beside || before.kind == beside) && o.kind < 0 && before.kind < 0:
			f := l.newFinding(Conflicting, run, o.first, o.last())
			f.Keys = []string{a.inventory.key(l, run, before), a.inventory.key(l, run, o)}
			a.add(f)
		case o.first <= end:
			f := l.newFinding(Doubled, run, o.first, min(o.last(), end))
			f.Keys = []string{a.inventory.key(l, run, furthest), a.inventory.key(l, run, o)}
			a.add(f)
		case o.first > end+1:
			gaps = append(gaps, gap{first: end + 1, last: o.first - 1, run: run, since: hourEnd(o)})
		}
		if o.last() > end {
			furthest = o
		}
		before = o
	}
	return gaps
}
