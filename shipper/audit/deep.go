package audit

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"runtime"
	"sync"

	"collectord/shipper/bucket"
)

// reading is the reading of one object. Readings start and are judged in the order of the
// seqs; several run concurrently.
type reading struct {
	log    *logObjects
	run    *runObjects
	object objectRef
	key    string

	done      chan struct{} // closed when contents and objectErr are set; never after an error that ends the audit
	contents  bucket.Contents
	objectErr error // error of this object alone
}

// maxWitnesses limits how many logs provide their newest object as a witness. A witness is
// read to decide whether the storage fails.
const maxWitnesses = 4

// deep reads every object.
func (a *audit) deep(ctx context.Context, logs []*logObjects) error {
	workers := cmp.Or(a.Workers, max(4, 2*runtime.GOMAXPROCS(0)))
	for _, l := range logs[:min(len(logs), maxWitnesses)] {
		for _, r := range l.runs[max(0, len(l.runs)-1):] {
			a.calls.witnesses = append(a.calls.witnesses, a.inventory.key(l, r, *r.objects.at(r.objects.Len() - 1)))
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	started := make(chan *reading, 2*workers) // in the order of the seqs
	work := make(chan *reading)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			if err := a.readObjects(ctx, work); err != nil {
				cancel(err)
			}
		})
	}
	wg.Go(func() {
		defer close(started)
		defer close(work)
		for x := range a.readings(logs) {
			for _, to := range []chan<- *reading{started, work} {
				select {
				case to <- x:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	var before *reading // the last reading of the run that was in order
	total := 0
	for _, l := range a.report.Logs {
		total += l.Objects
	}
	for x := range started {
		select {
		case <-x.done:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		a.report.Read++
		a.Progress(a.report.Read, total)
		if before != nil && before.run != x.run {
			before = nil
		}
		if a.checkContents(x, before) && (before == nil || x.object.first > before.object.last()) {
			before = x
		}
	}
	err := context.Cause(ctx)
	cancel(nil)
	wg.Wait()
	return err
}

// readObjects reads objects until work is closed, or until an error that ends the audit.
func (a *audit) readObjects(ctx context.Context, work <-chan *reading) error {
	v, err := bucket.NewVerifier()
	if err != nil {
		return err
	}
	defer v.Close()
	for x := range work {
		x.objectErr, err = a.calls.do(ctx, x.key, func(ctx context.Context) (err error) {
			x.contents, err = v.Read(ctx, a.calls.store, x.key)
			return err
		})
		if err != nil {
			return err
		}
		if x.objectErr == nil {
			a.calls.recordRead(x.key)
		}
		close(x.done)
	}
	return nil
}

// readings yields a reading of each object, in the order of the seqs.
func (a *audit) readings(logs []*logObjects) iter.Seq[*reading] {
	return func(yield func(*reading) bool) {
		for _, l := range logs {
			for _, r := range l.runs {
				for o := range r.objects.all() {
					if !yield(&reading{log: l, run: r, object: o, key: a.inventory.key(l, r, o), done: make(chan struct{})}) {
						return
					}
				}
			}
		}
	}
}

// checkContents reports the problems of an object. It returns whether later objects can compare
// their ids with this one.
func (a *audit) checkContents(x, before *reading) (ok bool) {
	c := &x.contents
	a.report.RawBytes += c.RawBytes
	f := x.log.newFinding(Damaged, x.run, x.object.first, x.object.last())
	f.Keys = []string{x.key}
	if x.objectErr == nil {
		f.Reason = c.Problem(standardKey(x.log, x.run, x.object))
	}
	switch {
	case errors.Is(x.objectErr, bucket.ErrNotFound):
		f.Kind, f.Reason = Deleted, "it was deleted during the audit"
	case x.objectErr != nil:
		f.Kind, f.Reason = Unreadable, errorText(x.objectErr)
		a.calls.unreadable.forget(x.key)
	case c.Truncated:
		f.Kind = Truncated
	case f.Reason != "":
	case before != nil && x.object.first > before.object.last() && c.OverlapsIDs(&before.contents):
		f.Reason = "its first id is not above the last one of the object before"
		f.Keys = append(f.Keys, before.key)
		a.add(f)
		return true // the next object is compared with this one
	default:
		if !c.HasMetadata() {
			a.report.NoMetadata++
		}
		return true
	}
	a.add(f)
	return false
}
