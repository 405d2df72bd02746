package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"collectord/shipper/bucket"
)

// maxConsecutiveFailures is how many consecutive objects with a temporary failure mean that the storage
// itself fails, although it lists them.
const maxConsecutiveFailures = 20

// objectStallTimeout is how long the storage may send nothing of one object; see also
// bucket.Pace. An object that can't be read takes two such attempts, or four attempts that the
// storage answers with a failure, so it delays its reader by less than a minute. One that
// trickles takes two attempts of up to 80 s.
const objectStallTimeout = 20 * time.Second

// objectCalls makes the calls about single objects. Anyone who can upload objects can also
// create one that the storage does not return, or whose response is broken. As long as the
// storage lists such an object, only that object fails and the others are read.
type objectCalls struct {
	store               bucket.Store
	unreadable          *unreadableObjects // collects the objects that fail alone; nil: not collected
	consecutiveFailures atomic.Int32       // consecutive objects with a temporary failure
	pace                bucket.Pace        // of all bodies: without it a trickle would delay its reader without end

	// witnesses are keys of data objects. The storage fails only if none of them can be
	// read; otherwise the objects themselves fail.
	witnesses []string
	readable  atomic.Pointer[string] // the object that was read last, an additional witness
}

// recordRead records that an object was read to its end.
func (c *objectCalls) recordRead(key string) { c.readable.Store(&key) }

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

// retry makes a call about one object, with bucket.Retry and the limits of one object.
func (c *objectCalls) retry(ctx context.Context, call func(context.Context) error) error {
	return bucket.Retry(ctx, func() error {
		return call(bucket.WithCallOptions(ctx, &bucket.CallOptions{StallTimeout: objectStallTimeout, Pace: &c.pace}))
	})
}

// do makes a call about one listed object, with retries. objectErr is a problem of this object
// alone, for example damage or deletion. err means that the storage fails and that reading must
// stop.
func (c *objectCalls) do(ctx context.Context, key string, call func(context.Context) error) (objectErr, err error) {
	err = c.retry(ctx, call)
	if errors.Is(err, bucket.ErrNotFound) {
		err = c.checkDeleted(ctx, key, call)
	}
	var damage *bucket.Damage
	var failure *bucket.Error
	switch {
	case err == nil, errors.Is(err, bucket.ErrNotFound), errors.As(err, &damage):
		c.consecutiveFailures.Store(0)
		return err, nil
	case ctx.Err() != nil, !errors.As(err, &failure), !failure.ThisObjectOnly && !c.answersLists(ctx, key):
		return nil, err
	case failure.Permanent || c.consecutiveFailures.Add(1) < maxConsecutiveFailures:
	case c.storageFails(ctx):
		return nil, fmt.Errorf("%d objects in a row can't be read: %w", maxConsecutiveFailures, err)
	default:
		c.consecutiveFailures.Store(0)
	}
	objectFailure := *failure
	if !objectFailure.ThisObjectOnly { // the existing hint is about the storage
		objectFailure.ThisObjectOnly, objectFailure.Hint = true, "the storage lists this object, but fails when it is read: look at the object, and move it away"
	}
	if c.unreadable != nil {
		c.unreadable.add(key, &objectFailure)
	}
	return &objectFailure, nil
}

// checkDeleted returns bucket.ErrNotFound if the storage does not list a missing object any more.
// Otherwise it repeats the call: an object that is listed and missing was not deleted.
func (c *objectCalls) checkDeleted(ctx context.Context, key string, call func(context.Context) error) error {
	switch listed, err := c.lists(ctx, key); {
	case err != nil:
		return err
	case !listed:
		return bucket.ErrNotFound
	}
	if err := c.retry(ctx, call); !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	return &bucket.Error{
		Op: "open", Key: key, Kind: "contradiction", ThisObjectOnly: true, Err: errors.New("the storage lists it, and answers that there is no such object"),
		Hint: "it lost the object, or a proxy in front of it changes names or lists from a cache: read the bucket another way (shipper.s3.endpoint)",
	}
}

// answersLists reports whether the storage answers listings.
func (c *objectCalls) answersLists(ctx context.Context, key string) bool {
	_, err := c.lists(ctx, key)
	return err == nil
}

// lists reports whether the storage lists an object.
func (c *objectCalls) lists(ctx context.Context, key string) (listed bool, err error) {
	err = bucket.Retry(ctx, func() error {
		for found, err := range c.store.List(ctx, listPrefix(key)) {
			if listed = err == nil && found == key; err != nil || listed {
				return err
			}
		}
		return nil
	})
	return listed, err
}

// maxPrefix is a length in bytes of a prefix that each storage lists.
const maxPrefix = 512

// listPrefix returns a prefix of a key that can be listed, also if the storage or the library would
// reject the key: some storages list keys that are not UTF-8, or longer than those of S3.
func listPrefix(key string) string {
	prefix := key[:min(len(key), maxPrefix)]
	for !utf8.ValidString(prefix) {
		prefix = prefix[:len(prefix)-1]
	}
	return prefix
}
