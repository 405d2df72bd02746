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
	run         *runObjects       // nil: between runs, or outside all runs
	leading     bool              // before the first object
	since       time.Time         // a later record was received no later than this
	heartbeat   *bucket.Heartbeat // for a gap after all objects: the heartbeat that proves the gap
}

// classifyGap reports which part of a gap is recorded as lost, and classifies the rest.
func (a *audit) classifyGap(ctx context.Context, l *logObjects, g gap) error {
	next, end := g.first, g.last
	rest := func(last uint64) error {
		if next > last {
			return nil
		}
		if g.leading && !a.FromStart {
			a.add(l.newFinding(Earlier, nil, next, last))
			return nil
		}
		g.first, g.last = next, last
		return a.classifyUnexplained(ctx, l, g)
	}
	for _, n := range l.notes[firstNote(l.notes, g.first):] {
		if n.FirstSeq > end {
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
		f := l.newFinding(Lost, nil, next, min(n.LastSeq, end))
		f.Node, f.Reason, f.Keys = n.Node, n.reason, []string{n.LossKey()}
		if n.Run != 0 {
			f.Runs = []string{bucket.HexID(n.Run)}
		}
		if !n.at.IsZero() {
			f.Since = &n.at
		}
		a.add(f)
		if n.LastSeq >= end {
			return nil
		}
		next = n.LastSeq + 1
	}
	return rest(end)
}

// firstNote returns the index of the first note that may reach seq. Notes overlap very
// rarely, so it steps back at most 100 notes.
func firstNote(notes []lossNote, seq uint64) int {
	at, _ := slices.BinarySearchFunc(notes, seq, func(n lossNote, seq uint64) int { return cmp.Compare(n.FirstSeq, seq) })
	for back := 0; at > 0 && back < 100; back++ {
		at--
	}
	return at
}

// classifyUnexplained reports a gap without a loss note. The part below the confirmed seq is
// Missing. The part above it is NotYet, or Overdue after the grace period.
func (a *audit) classifyUnexplained(ctx context.Context, l *logObjects, g gap) error {
	confirmed, err := a.confirmedBelow(ctx, l, g.run)
	if err != nil {
		return err
	}
	if g.first < confirmed {
		f := l.newFinding(Missing, g.run, g.first, min(g.last, confirmed-1))
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
	f := l.newFinding(kind, g.run, g.first, g.last)
	f.Since = &g.since
	if g.heartbeat != nil {
		f.Node, f.Heartbeat = g.heartbeat.Node, &g.heartbeat.At
	}
	if confirmed == 0 {
		f.Reason = unconfirmed
	}
	a.add(f)
	return nil
}
