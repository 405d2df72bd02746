package shipper

import (
	"context"
	"errors"
	"fmt"

	"collectord/wal"
)

// tooLarge is the kind of a refusal of an object for its size, by the storage or by a
// proxy in front of it.
const tooLarge = "too_large"

// smallestSplit is the size of an object from which on a segment is split. Where even
// less is refused, something else is wrong, and pieces would only be many.
const smallestSplit = 64 << 10

// Hints for an object that is too large and can't be shipped in pieces.
const (
	raiseLimit    = "raise the limit of the storage, or of the proxy in front of it (nginx: client_max_body_size)"
	oneFrameHint  = "it is one commit, as of a large request, which is never split: " + raiseLimit + "; a lower http.max_decoded keeps out requests like it"
	smallHint     = "objects of this size should fit anywhere: see what answers at shipper.s3.endpoint, and " + raiseLimit
	mayAskHint    = "it can be shipped in pieces once the storage may be asked whether it has it already: grant s3:GetObject and s3:ListBucket, or " + raiseLimit
	brokenTooLong = "the storage holds a damaged copy of it and takes no other: " + raiseLimit + ", or delete that copy"
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
func (s *Shipper) shipInPieces(ctx context.Context, seg *wal.Segment, o *Object, refused *StoreError) error {
	found, err := s.compare(ctx, o)
	if err == nil && found == otherContent {
		o = o.beside()
		found, err = s.compare(ctx, o)
	}
	var unasked *StoreError
	switch {
	case errors.Is(err, ErrNotFound):
	case errors.As(err, &unasked) && unasked.Permanent:
		return refused.because(mayAskHint, unasked)
	case err != nil || found == sameContent:
		return err
	case found == damagedCopy:
		return refused.because(brokenTooLong, nil)
	default:
		return conflict(o)
	}
	if o.Size < smallestSplit {
		return refused.because(smallHint, nil)
	}
	err = seg.Split()
	switch {
	case errors.Is(err, wal.ErrOneFrame):
		return refused.because(oneFrameHint, nil)
	case err != nil:
		return refused.because(refused.Hint, s.salvageIfDamaged(seg, err))
	}
	s.opts.Logger.Warn("the storage refuses a segment as too large: it is shipped in two pieces ("+raiseLimit+", or lower wal.segment_size)",
		"trouble", tooLarge, "segment", seg.String(), "bytes", o.Size, "error", refused)
	return errSplit
}

// because is the refusal with a hint, and with what kept the segment from being split.
func (e *StoreError) because(hint string, cause error) error {
	same := *e
	same.Hint = hint
	if cause != nil {
		same.Err = fmt.Errorf("%w; %w", e.Err, cause)
	}
	return &same
}
