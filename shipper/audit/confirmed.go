package audit

import (
	"context"
	"errors"
	"slices"

	"collectord/shipper/bucket"
)

// unconfirmed is the reason of a gap in a log without metadata.
const unconfirmed = "no metadata tells what the host had confirmed: whether these were deleted or never came is not known"

// confirmed is below which seq all is in the bucket, or noted as lost, as far as was
// asked.
type confirmed struct {
	asked bool
	below uint64 // 0: not known
}

// newest is how many of the newest objects are asked what was confirmed. Uploads
// overtake each other by no more than are under way at once.
const newest = 16

// confirmedBelow is the newest confirmed-below of the log; 0 if no metadata has it.
// Where runs are forked each has its own.
func (a *audit) confirmedBelow(ctx context.Context, l *logObjects, run *runObjects) (uint64, error) {
	runs, c := l.runs, &l.confirmed
	if run != nil && run.forked {
		runs, c = []*runObjects{run}, &run.confirmed
	}
	if c.asked {
		return c.below, nil
	}
	below, err := a.askConfirmed(ctx, l, runs)
	if err == nil {
		*c = confirmed{asked: true, below: below}
	}
	return below, err
}

// askConfirmed looks at the metadata of the newest objects. A heartbeat would be
// another source.
func (a *audit) askConfirmed(ctx context.Context, l *logObjects, runs []*runObjects) (below uint64, err error) {
	asked := 0
	for _, r := range slices.Backward(runs) {
		for _, o := range slices.Backward(r.objects) {
			// An object can't confirm more than what lies below it.
			if asked == newest || o.first <= below {
				break
			}
			var there bucket.Stored
			err := bucket.Retry(ctx, func() (err error) { there, err = a.store.Stat(ctx, a.inventory.key(l, r, o)); return err })
			if err != nil && !errors.Is(err, bucket.ErrNotFound) {
				return 0, err
			}
			below = max(below, min(there.ConfirmedBelow, o.first))
			asked++
		}
	}
	return below, nil
}
