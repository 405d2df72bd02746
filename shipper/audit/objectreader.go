package audit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"collectord/shipper/bucket"
)

// objectReader reads objects one after another.
type objectReader struct {
	calls *objectCalls
	each  func(lines []byte) error
	in    *bucket.Reader // nil until the first object is open
}

func (r *objectReader) close() {
	if r.in != nil {
		r.in.Close()
	}
}

// read reads an object. A retry skips the lines that were already delivered.
func (r *objectReader) read(ctx context.Context, o *prefetchedObject) error {
	open := o.open      // the body that was fetched ahead; used for the first attempt only
	var delivered int64 // bytes of lines that were delivered
	objectErr, err := r.calls.do(ctx, o.key, func(ctx context.Context) error {
		if open == nil || o.opened == nil {
			open = func() (io.ReadCloser, bucket.Stored, error) { return r.calls.store.Open(ctx, o.key) }
		}
		body, stored, err := open()
		if open = nil; err != nil {
			return err
		}
		defer body.Close()
		if r.in == nil {
			r.in, err = bucket.NewReader(body, stored.Size)
		} else {
			r.in.Reset(body, stored.Size)
		}
		if k, ok := bucket.ParseKey(o.key); ok && err == nil {
			r.in.LimitRecords(k.LastSeq - k.FirstSeq + 1)
		}
		for position := int64(0); err == nil; {
			var lines []byte
			if lines, err = r.in.Lines(); err != nil {
				break
			}
			from := min(max(delivered-position, 0), int64(len(lines)))
			position += int64(len(lines))
			if from == int64(len(lines)) { // already delivered
				continue
			}
			if err := r.each(lines[from:]); err != nil {
				return err
			}
			delivered = position
		}
		if err == io.EOF { //nolint:errorlint // Lines never wraps io.EOF
			return nil
		}
		return err
	})
	var damage *bucket.Damage
	switch {
	case objectErr == nil && err == nil:
		r.calls.recordRead(o.key)
		return nil
	case err != nil, errors.Is(objectErr, bucket.ErrNotFound): // deleted after it was listed, by a life-cycle rule
		return err
	case errors.As(objectErr, &damage):
		objectErr = fmt.Errorf("%s: %w", o.key, objectErr)
	}
	return &DamagedError{1, objectErr}
}
