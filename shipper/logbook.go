package shipper

import (
	"cmp"
	"context"
	"slices"
	"time"
)

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
