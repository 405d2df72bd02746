package audit

import (
	"context"
	"slices"

	"collectord/shipper/bucket"
)

// unconfirmed is the reason of a gap in a log whose confirmed seq is unknown.
const unconfirmed = "there is no metadata and no heartbeat, so it is unknown which records the host had confirmed: the missing ones may have been deleted, or may never have arrived"

// confirmed is the seq below which every record is in the bucket or recorded as lost. It
// is cached: asked is false until it has been looked up.
type confirmed struct {
	known bool
	below uint64 // 0: unknown
}

// maxNewestChecked is how many of the newest objects are checked for the confirmed seq. An upload
// can overtake only the uploads that run at the same time.
const maxNewestChecked = 16

// confirmedBelow returns the highest confirmed-below seq of the log, from its heartbeat or
// from metadata, or 0 if neither has one. Each forked run has its own confirmed seq.
func (a *audit) confirmedBelow(ctx context.Context, l *logObjects, run *runObjects) (uint64, error) {
	runs, c := l.runs, &l.confirmed
	if run != nil && run.forked {
		runs, c = []*runObjects{run}, &run.confirmed
	}
	if c.known {
		return c.below, nil
	}
	var below uint64
	if h := l.heartbeatOf(run); h != nil {
		below = h.ConfirmedBelow
	}
	below, err := a.readConfirmed(ctx, l, runs, below)
	if err == nil {
		*c = confirmed{known: true, below: below}
	}
	return below, err
}

// readConfirmed reads the metadata of the newest objects and stops when no further object can
// confirm more than the value of below.
func (a *audit) readConfirmed(ctx context.Context, l *logObjects, runs []*runObjects, below uint64) (uint64, error) {
	checked := 0
	for _, r := range slices.Backward(runs) {
		for i := r.objects.Len() - 1; i >= 0; i-- {
			o := *r.objects.at(i)
			// An object confirms at most the seqs below its own first seq.
			if checked == maxNewestChecked || o.first <= below {
				break
			}
			var stored bucket.Stored
			key := a.inventory.key(l, r, o)
			_, err := a.calls.do(ctx, key, func(ctx context.Context) (err error) { stored, err = a.calls.store.Stat(ctx, key); return err })
			if err != nil {
				return 0, err
			}
			below = max(below, min(stored.ConfirmedBelow, o.first))
			checked++
		}
	}
	return below, nil
}
