package shipper

import (
	"context"
	"errors"
	"sync"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// sizeLimit is what is known of the largest object that the destination takes: the
// smallest that it refused. It is kept in memory, and forgotten after refusalLasts, or
// once an object of that size passes.
type sizeLimit struct {
	mu      sync.Mutex    // guards what follows
	size    int64         // of the smallest object that was refused
	refusal *bucket.Error // of that object; nil: none was refused
	at      time.Time     // when
}

// refusalLasts is how long a refusal counts: a limit may be raised, and nobody tells.
const refusalLasts = 3 * time.Hour

// note learns from a put. A larger object that is refused, too, does not prolong what
// is known: it says nothing of the sizes in between.
func (l *sizeLimit) note(size int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.refusal != nil && time.Since(l.at) < refusalLasts
	var refused *bucket.Error
	switch {
	case err == nil && size >= l.size:
		l.refusal = nil
	case errors.As(err, &refused) && refused.Kind == bucket.TooLarge && (!known || size < l.size):
		l.size, l.refusal, l.at = size, refused, time.Now()
	}
}

// refuses returns the refusal of an object that was not larger, or nil.
func (l *sizeLimit) refuses(size int64) *bucket.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusal == nil || size < l.size || time.Since(l.at) >= refusalLasts {
		return nil
	}
	return l.refusal
}

// putFitting sends an object, unless it is known to be too large and can be split: then
// the segment is, and errSplit or errSalvaged returned. One that can't be split is sent
// all the same, which is how a raised limit is noticed.
func (s *Shipper) putFitting(ctx context.Context, seg *wal.Segment, o *bucket.Object) (stored *bucket.Object, err error) {
	if refusal := s.sizes.refuses(o.Size); refusal != nil {
		stored, err := s.shipInPieces(ctx, seg, o, refusal)
		if err == nil || errors.Is(err, errSplit) || errors.Is(err, errSalvaged) {
			return stored, err
		}
	}
	return s.put(ctx, seg, o)
}

// takesSmall returns nil if the storage takes the smallest of all objects.
func (s *Shipper) takesSmall(ctx context.Context) error {
	probe := bucket.ProbeObject()
	probe.Replace, probe.Replaces = true, bucket.AnyVersion // otherwise it might not be sent
	return s.store.Put(ctx, probe)
}
