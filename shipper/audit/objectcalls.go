package audit

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"collectord/shipper/bucket"
)

// maxInRow is after how many objects in a row that failed in a way that may pass the
// storage is taken to fail, though it lists them.
const maxInRow = 20

// objectCalls makes the calls about single objects. Who can put an object can also make
// one that no storage gives back, or whose answer is broken: as long as the storage lists
// it, it fails alone, and the others can be read.
type objectCalls struct {
	store  bucket.Store
	failed *failed      // collects the objects that fail alone; nil: not
	inRow  atomic.Int32 // objects that failed in a way that may pass
}

// do makes a call about one object, by bucket.Retry. What is wrong with this object alone,
// also that it is damaged or gone, is returned in own; an err ends the reading.
func (c *objectCalls) do(ctx context.Context, key string, call func() error) (own, err error) {
	err = bucket.Retry(ctx, call)
	var damage *bucket.Damage
	var trouble *bucket.Error
	switch {
	case err == nil, errors.Is(err, bucket.ErrNotFound), errors.As(err, &damage):
		c.inRow.Store(0)
		return err, nil
	case ctx.Err() != nil, !errors.As(err, &trouble), !trouble.OwnTrouble && c.list(ctx, key) != nil:
		return nil, err
	case !trouble.Permanent && c.inRow.Add(1) >= maxInRow:
		return nil, fmt.Errorf("%d objects in a row can't be read: %w", maxInRow, err)
	}
	alone := *trouble
	if !alone.OwnTrouble { // its hint is about the storage
		alone.OwnTrouble, alone.Hint = true, "the storage lists it, and answers so for this object: look at it, and move it away"
	}
	if c.failed != nil {
		c.failed.add(key, &alone)
	}
	return &alone, nil
}

// list asks the storage for the name of an object.
func (c *objectCalls) list(ctx context.Context, key string) error {
	return bucket.Retry(ctx, func() error {
		for _, err := range c.store.List(ctx, key) {
			return err
		}
		return nil
	})
}
