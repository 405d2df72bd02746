package shipper

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// hole is a range of seqs that no object covers.
type hole struct {
	first, last uint64
	run         *chapter  // nil: between runs, or outside of all
	leading     bool      // before the first object
	since       time.Time // a later record was received by then
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
			var m Stored
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
