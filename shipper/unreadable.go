package shipper

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"collectord/shipper/bucket"
)

// unreadableFor is how long the storage may fail to return an object of which it says
// that it has it, before the object counts as damaged: after a start it may not have all
// of its disks yet.
const unreadableFor = 5 * time.Minute

// unreadable has the objects that the storage did not return when they were read last.
type unreadable struct {
	mu    sync.Mutex           // guards what follows
	since map[string]time.Time // by key
}

// counts notes that an object could not be read, and reports whether that has been so
// for too long.
func (u *unreadable) counts(key string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.since, func(_ string, since time.Time) bool { return now.Sub(since) > reshipLimit })
	since, ok := u.since[key]
	if !ok {
		if u.since == nil {
			u.since = map[string]time.Time{}
		}
		u.since[key] = now
	}
	return ok && now.Sub(since) >= unreadableFor
}

// forget notes that an object could be read, or is not there.
func (u *unreadable) forget(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.since, key)
}

// compare is bucket.Compare, for which an object is damaged that can't be read for long.
func (s *Shipper) compare(ctx context.Context, o *bucket.Object, read bool) (found bucket.Comparison, etag string, err error) {
	found, etag, err = bucket.Compare(ctx, s.store, o, read)
	var u *bucket.Unreadable
	switch {
	case errors.As(err, &u) && s.unread.counts(o.Key, time.Now()):
		return u.Found, u.ETag, nil
	case err == nil || errors.Is(err, bucket.ErrNotFound):
		s.unread.forget(o.Key)
	}
	return found, etag, err
}
