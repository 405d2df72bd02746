package audit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// gap is a range of seqs that no object covers.
type gap struct {
	first, last uint64
	run         *runObjects // nil: between runs, or outside of all
	leading     bool        // before the first object
	since       time.Time   // a later record was received by then
}

// gap reports what of a gap is known to be lost, and what the rest is.
func (a *audit) gap(ctx context.Context, l *logObjects, g gap) error {
	next := g.first
	rest := func(last uint64) error {
		if next > last || g.leading && !a.FromStart {
			return nil
		}
		return a.unexplained(ctx, l, gap{first: next, last: last, run: g.run, since: g.since})
	}
	for _, n := range l.notes[firstNote(l.notes, g.first):] {
		if n.FirstSeq > g.last {
			break
		}
		if n.LastSeq < next || g.run != nil && g.run.forked && n.Run != g.run.run && n.Run != 0 {
			continue
		}
		if n.FirstSeq > next {
			if err := rest(n.FirstSeq - 1); err != nil {
				return err
			}
			next = n.FirstSeq
		}
		f := l.about(Lost, nil, next, min(n.LastSeq, g.last))
		f.Node, f.Reason, f.Keys = n.Node, n.reason, []string{n.LossKey()}
		if n.Run != 0 {
			f.Runs = []string{bucket.HexID(n.Run)}
		}
		if !n.at.IsZero() {
			f.Since = &n.at
		}
		a.add(f)
		if n.LastSeq >= g.last {
			return nil
		}
		next = n.LastSeq + 1
	}
	return rest(g.last)
}

// firstNote skips notes that end before seq. Notes may overlap, if barely ever,
// so that it looks back over a few.
func firstNote(notes []lossNote, seq uint64) int {
	at, _ := slices.BinarySearchFunc(notes, seq, func(n lossNote, seq uint64) int { return cmp.Compare(n.FirstSeq, seq) })
	for back := 0; at > 0 && back < 100; back++ {
		at--
	}
	return at
}

// unexplained reports a gap that no note explains: missing below what was confirmed,
// and not yet there, or overdue, above it.
func (a *audit) unexplained(ctx context.Context, l *logObjects, g gap) error {
	confirmed, err := a.confirmedBelow(ctx, l, g.run)
	if err != nil {
		return err
	}
	if g.first < confirmed {
		f := l.about(Missing, g.run, g.first, min(g.last, confirmed-1))
		f.Since = &g.since
		a.add(f)
		g.first = confirmed
	}
	if g.first > g.last {
		return nil
	}
	kind := NotYet
	if a.Now.Sub(g.since) > a.Grace {
		kind = Overdue
	}
	f := l.about(kind, g.run, g.first, g.last)
	f.Since = &g.since
	if confirmed == 0 {
		f.Reason = unconfirmed
	}
	a.add(f)
	return nil
}
