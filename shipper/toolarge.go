package shipper

import (
	"context"
	"errors"
	"fmt"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// usuallyTaken is a size that any storage takes. If less is refused, it may be that
// everything is, and pieces would only be many: that is found out first.
const usuallyTaken = 64 << 10

// Hints for an object that is too large and can't be shipped in pieces.
const (
	oneFrameHint  = "it is one commit, as of a large request, which is never split: " + bucket.RaiseLimit + "; a lower http.max_decoded keeps out requests like it"
	smallHint     = "even the smallest objects are refused: see what answers at shipper.s3.endpoint, and " + bucket.RaiseLimit
	mayAskHint    = "it can be shipped in pieces once the storage may be asked whether it has it already: grant s3:GetObject and s3:ListBucket, or " + bucket.RaiseLimit
	brokenTooLong = "the storage holds a damaged copy of it and takes no other: " + bucket.RaiseLimit + ", or delete that copy"
)

// shipInPieces splits a segment whose object the storage refuses as too large. It
// returns errSplit, or nil if the storage has the whole object.
//
// No record is stored twice by it. The pieces have names of their own, so that no put
// of theirs finds the whole object, which may be there: the answer to an earlier
// attempt may be lost, also that of an earlier process, and the limit lower since. So
// the storage is asked first, under both names that the object can have, and where it
// does not answer, nothing is split. Once it is split, the log does not ship it whole
// any more: see wal.Segment.Split. An earlier attempt that is still under way between
// a proxy, which had taken all of it, and the storage could be stored later: then both
// have the same ids, and the audit reports them as doubled.
func (s *Shipper) shipInPieces(ctx context.Context, seg *wal.Segment, o *bucket.Object, refused *bucket.Error) (stored *bucket.Object, err error) {
	found, _, err := s.existing(ctx, seg, o)
	if errors.Is(err, bucket.ErrNotFound) || err == nil && found != bucket.SameLines && found != bucket.DamagedCopy {
		o = o.Beside()
		found, _, err = s.existing(ctx, seg, o)
	}
	var unasked *bucket.Error
	switch {
	case errors.Is(err, bucket.ErrNotFound):
	case errors.As(err, &unasked) && unasked.Permanent:
		return o, because(refused, mayAskHint, unasked)
	case err != nil || found == bucket.SameLines:
		return o, err
	case found == bucket.DamagedCopy:
		return o, because(refused, brokenTooLong, nil)
	default:
		return o, conflict(o)
	}
	if o.Size < usuallyTaken {
		if err := s.takesSmall(ctx); err != nil {
			return o, because(refused, smallHint, err)
		}
	}
	err = seg.Split()
	switch {
	case errors.Is(err, wal.ErrOneFrame):
		return o, because(refused, oneFrameHint, nil)
	case err != nil:
		return o, because(refused, refused.Hint, s.salvageIfDamaged(seg, err))
	}
	s.opts.Logger.Warn("split a segment into two: the storage refuses objects of its size ("+bucket.RaiseLimit+", or lower wal.segment_size)",
		"trouble", bucket.TooLarge, "segment", seg.String(), "bytes", o.Size, "error", refused)
	return o, errSplit
}

// because is the refusal with a hint, and with what kept the segment from being split.
func because(refused *bucket.Error, hint string, cause error) error {
	same := *refused
	same.Hint = hint
	if cause != nil {
		same.Err = fmt.Errorf("%w; %w", refused.Err, cause)
	}
	return &same
}
