package audit

import (
	"context"
	"slices"

	"collectord/shipper/bucket"
)

// unconfirmed is what a report says of a gap in a log of which nothing tells what was
// confirmed.
const unconfirmed = "neither metadata nor a heartbeat tells what the host had confirmed: whether these were deleted or never came is not known"

// confirmed is below which seq all is in the bucket, or noted as lost, as far as was
// asked.
type confirmed struct {
	asked bool
	below uint64 // 0: not known
}

// newest is how many of the newest objects are asked what was confirmed. Uploads
// overtake each other by no more than are under way at once.
const newest = 16

// confirmedBelow is the newest confirmed-below of the log, of a heartbeat or metadata; 0
// if neither has it.
// Where runs are forked each has its own.
func (a *audit) confirmedBelow(ctx context.Context, l *logObjects, run *runObjects) (uint64, error) {
	runs, c := l.runs, &l.confirmed
	if run != nil && run.forked {
		runs, c = []*runObjects{run}, &run.confirmed
	}
	if c.asked {
		return c.below, nil
	}
	var below uint64
	if h := l.heartbeatOf(run); h != nil {
		below = h.ConfirmedBelow
	}
	below, err := a.askConfirmed(ctx, l, runs, below)
	if err == nil {
		*c = confirmed{asked: true, below: below}
	}
	return below, err
}

// askConfirmed looks at the metadata of the newest objects, unless they can't confirm more
// than below.
func (a *audit) askConfirmed(ctx context.Context, l *logObjects, runs []*runObjects, below uint64) (uint64, error) {
	asked := 0
	for _, r := range slices.Backward(runs) {
		for i := r.objects.Len() - 1; i >= 0; i-- {
			o := *r.objects.at(i)
			// An object can't confirm more than what lies below it.
			if asked == newest || o.first <= below {
				break
			}
			var there bucket.Stored
			key := a.inventory.key(l, r, o)
			_, err := a.calls.do(ctx, key, func(ctx context.Context) (err error) { there, err = a.calls.store.Stat(ctx, key); return err })
			if err != nil {
				return 0, err
			}
			below = max(below, min(there.ConfirmedBelow, o.first))
			asked++
		}
	}
	return below, nil
}
