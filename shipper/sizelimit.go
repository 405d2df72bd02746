package shipper

import (
	"context"
	"errors"
	"sync"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// sizeLimit remembers the smallest object that the destination refused as too large. It
// forgets it after refusalValidFor, or when the destination accepts an object of that size.
// It is in memory only.
type sizeLimit struct {
	mu      sync.Mutex    // guards the fields below
	size    int64         // of the smallest refused object
	refusal *bucket.Error // of that object; nil: none was refused
	at      time.Time     // when it was refused
}

// refusalValidFor is how long a refusal is valid: the limit may be raised without notice.
const refusalValidFor = 3 * time.Hour

// record records the result of a put. The refusal of a larger object does not extend an earlier
// refusal, since it proves nothing about smaller sizes.
func (l *sizeLimit) record(size int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.refusal != nil && time.Since(l.at) < refusalValidFor
	var refused *bucket.Error
	switch {
	case err == nil && size >= l.size:
		l.refusal = nil
	case errors.As(err, &refused) && refused.Kind == bucket.TooLarge && (!known || size < l.size):
		l.size, l.refusal, l.at = size, refused, time.Now()
	}
}

// refusalOf returns the refusal that an object of this size would meet, or nil.
func (l *sizeLimit) refusalOf(size int64) *bucket.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusal == nil || size < l.size || time.Since(l.at) >= refusalValidFor {
		return nil
	}
	return l.refusal
}

// putOrSplit sends an object. If the object is known to be too large, it splits the
// segment instead and returns errSplit or errSalvaged. If the split is impossible, it
// sends the object all the same, which detects a raised limit.
func (s *Shipper) putOrSplit(ctx context.Context, seg *wal.Segment, o *bucket.Object) (stored *bucket.Object, err error) {
	if refusal := s.sizes.refusalOf(o.Size); refusal != nil {
		stored, err := s.shipInPieces(ctx, seg, o, refusal)
		if err == nil || errors.Is(err, errSplit) || errors.Is(err, errSalvaged) {
			return stored, err
		}
	}
	return s.put(ctx, seg, o)
}

// probeSmallest returns nil if the storage accepts the smallest object.
func (s *Shipper) probeSmallest(ctx context.Context) error {
	probe := bucket.ProbeObject()
	probe.Replace, probe.Replaces = true, bucket.AnyVersion // without Replace, Put may skip the upload
	return s.store.Put(ctx, probe)
}
