package shipper

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"collectord/shipper/bucket"
)

// unreadableFor is how long the storage may fail to return an object that it claims to
// have, before the object counts as damaged. After a start, the storage may not have all
// its disks yet.
const unreadableFor = 5 * time.Minute

// unreadable records the objects whose last read failed.
type unreadable struct {
	mu    sync.Mutex           // guards since
	since map[string]time.Time // first failed read, by key
}

// recordFailure records a failed read and reports whether reads of this object have failed for
// unreadableFor.
func (u *unreadable) recordFailure(key string, now time.Time) bool {
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

// forget records that an object was read, or does not exist.
func (u *unreadable) forget(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.since, key)
}

// compare calls bucket.Compare. An object that was unreadable for unreadableFor counts as
// damaged.
func (s *Shipper) compare(ctx context.Context, o *bucket.Object, read bool) (found bucket.Comparison, etag string, err error) {
	found, etag, err = bucket.Compare(ctx, s.store, o, read)
	var u *bucket.Unreadable
	switch {
	case errors.As(err, &u) && s.unreadable.recordFailure(o.Key, time.Now()):
		return u.Found, u.ETag, nil
	case err == nil || errors.Is(err, bucket.ErrNotFound):
		s.unreadable.forget(o.Key)
	}
	return found, etag, err
}
