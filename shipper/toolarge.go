package shipper

import (
	"context"
	"errors"
	"fmt"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// usuallyAcceptedBytes is a size in bytes that every storage should accept. If the storage
// refuses a smaller object, it may refuse all, and a split would only make many pieces.
// So probeSmallest checks first.
const usuallyAcceptedBytes = 64 << 10

// Hints for an object that is too large and can't be shipped in pieces.
const (
	oneFrameHint        = "its segment is a single commit (of a large request, for example), and a commit is never split: " + bucket.RaiseLimit + "; a lower http.max_decoded keeps out such requests"
	smallHint           = "even the smallest objects are refused: check which server answers at shipper.s3.endpoint, and " + bucket.RaiseLimit
	readDeniedHint      = "it can be shipped in pieces once collectord may check whether the storage has it: grant s3:GetObject and s3:ListBucket, or " + bucket.RaiseLimit
	damagedTooLargeHint = "the storage has a damaged copy of it and accepts no other: " + bucket.RaiseLimit + ", or delete that copy"
)

// shipInPieces splits a segment whose object the storage refuses as too large. It returns
// errSplit, or nil if the storage already has the whole object.
//
// The split must not store a record twice. The whole object may be stored: the answer to
// an earlier attempt may be lost, and the limit lowered since. A put of a piece would not
// detect that, since pieces have keys of their own. So shipInPieces first compares the
// object under both keys that it can have, and splits nothing if the storage does not
// answer. After the split, the log no longer ships the whole segment: see
// wal.Segment.Split.
//
// One case remains: a proxy may have received an earlier attempt completely and pass it
// to the storage later. Then the whole object and the pieces have the same ids, and the
// audit reports them as doubled.
func (s *Shipper) shipInPieces(ctx context.Context, seg *wal.Segment, o *bucket.Object, refused *bucket.Error) (stored *bucket.Object, err error) {
	found, _, err := s.compareExisting(ctx, seg, o)
	if errors.Is(err, bucket.ErrNotFound) || err == nil && found != bucket.SameLines && found != bucket.DamagedCopy {
		o = o.Beside()
		found, _, err = s.compareExisting(ctx, seg, o)
	}
	var denied *bucket.Error
	switch {
	case errors.Is(err, bucket.ErrNotFound):
	case errors.As(err, &denied) && denied.Permanent:
		return o, withCause(refused, readDeniedHint, denied)
	case err != nil || found == bucket.SameLines:
		return o, err
	case found == bucket.DamagedCopy:
		return o, withCause(refused, damagedTooLargeHint, nil)
	default:
		return o, conflict(o)
	}
	if o.Size < usuallyAcceptedBytes {
		if err := s.probeSmallest(ctx); err != nil {
			return o, withCause(refused, smallHint, err)
		}
	}
	err = seg.Split()
	switch {
	case errors.Is(err, wal.ErrOneFrame):
		return o, withCause(refused, oneFrameHint, nil)
	case err != nil:
		return o, withCause(refused, refused.Hint, s.salvageIfDamaged(seg, err))
	}
	s.opts.Logger.Warn("split a segment into two: the storage refuses objects of its size ("+bucket.RaiseLimit+", or lower wal.segment_size)",
		"trouble", bucket.TooLarge, "segment", seg.String(), "bytes", o.Size, "error", refused)
	return o, errSplit
}

// withCause returns the refusal with a hint and the cause that prevented the split.
func withCause(refused *bucket.Error, hint string, cause error) error {
	same := *refused
	same.Hint = hint
	if cause != nil {
		same.Err = fmt.Errorf("%w; %w", refused.Err, cause)
	}
	return &same
}
