package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"collectord/shipper/bucket"
)

// maxInRow is after how many objects in a row that failed in a way that may pass the
// storage is taken to fail, though it lists them.
const maxInRow = 20

// stallOfObject is how long the storage may send next to nothing of one object. With two such
// attempts, or four that it answers with a failure, an object that can't be read holds up
// its reader for less than a minute.
const stallOfObject = 20 * time.Second

// leastOfObject is how many bytes of an object the storage must send in stallOfObject: one
// that trickles would hold up its reader for as long as it likes. A slow line brings more,
// also where it is shared by all who read.
const leastOfObject = 8 << 10

// objectCalls makes the calls about single objects. Who can put an object can also make
// one that no storage gives back, or whose answer is broken: as long as the storage lists
// it, it fails alone, and the others can be read.
type objectCalls struct {
	store  bucket.Store
	failed *failed      // collects the objects that fail alone; nil: not
	inRow  atomic.Int32 // objects that failed in a way that may pass

	// witnesses are objects with lines. As long as one of them can be read, the storage does
	// not fail: the objects do.
	witnesses []string
	readable  atomic.Pointer[string] // the object that was read last, another witness
}

// wasRead notes that an object could be read to its end.
func (c *objectCalls) wasRead(key string) { c.readable.Store(&key) }

// storageFails reports whether no witness can be read.
func (c *objectCalls) storageFails(ctx context.Context) bool {
	witnesses := c.witnesses
	if last := c.readable.Load(); last != nil {
		witnesses = append([]string{*last}, witnesses...)
	}
	return !slices.ContainsFunc(witnesses, func(key string) bool {
		return c.retry(ctx, func(ctx context.Context) error {
			body, _, err := c.store.Open(ctx, key)
			if err == nil {
				_, err = io.ReadFull(body, make([]byte, 1))
				body.Close()
			}
			return err
		}) == nil
	})
}

// retry makes a call about one object by bucket.Retry.
func (c *objectCalls) retry(ctx context.Context, call func(context.Context) error) error {
	return bucket.Retry(ctx, func() error {
		return call(bucket.WithCallOptions(ctx, &bucket.CallOptions{StallTimeout: stallOfObject, Least: leastOfObject}))
	})
}

// do makes a call about one object, more than once if need be. What is wrong with this object alone,
// also that it is damaged or gone, is returned in own; an err ends the reading.
func (c *objectCalls) do(ctx context.Context, key string, call func(context.Context) error) (own, err error) {
	err = c.retry(ctx, call)
	var damage *bucket.Damage
	var trouble *bucket.Error
	switch {
	case err == nil, errors.Is(err, bucket.ErrNotFound), errors.As(err, &damage):
		c.inRow.Store(0)
		return err, nil
	case ctx.Err() != nil, !errors.As(err, &trouble), !trouble.OwnTrouble && c.list(ctx, key) != nil:
		return nil, err
	case trouble.Permanent || c.inRow.Add(1) < maxInRow:
	case c.storageFails(ctx):
		return nil, fmt.Errorf("%d objects in a row can't be read: %w", maxInRow, err)
	default:
		c.inRow.Store(0)
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
