package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
)

// Comparison is the result of comparing an object with the one that the storage has under
// its key.
type Comparison int

// Results of Compare.
const (
	OtherLines  Comparison = iota
	SameLines              // as those of the object
	DamagedCopy            // its metadata or key claims the same lines, but it has others
	Undecodable            // it can't be read, and neither metadata nor key describes its lines
)

// Modes of Compare.
const (
	Look = false // metadata and size are trusted
	Read = true  // the lines are read
)

// Compare compares the lines of an object with those that the storage has under its key,
// and returns the ETag of the stored object. With Look it trusts metadata and size,
// unless a checksum differs or Stat reports doubt: after a failed proof, the next attempt
// must not accept the object unread. A difference is checked again by reading, since
// bytes may have changed in transit. ErrNotFound means that the key is free. The object
// needs no Body.
func Compare(ctx context.Context, store Store, o *Object, read bool) (found Comparison, etag string, err error) {
	if found, etag, err = compareOnce(ctx, store, o, read); err == nil && found != SameLines {
		return compareOnce(ctx, store, o, Read)
	}
	return found, etag, err
}

func compareOnce(ctx context.Context, store Store, o *Object, read bool) (found Comparison, etag string, err error) {
	if !read {
		there, err := store.Stat(ctx, o.Key)
		if err != nil {
			return 0, "", err
		}
		same := there.SameContent(o.Metadata)
		switch {
		case there.SHA256 != "" && !same:
			return OtherLines, there.ETag, nil
		case same && there.Size == o.Size && (there.CRC32C == "" && !there.Doubtful || there.CRC32C == o.checksum()):
			return SameLines, there.ETag, nil
		}
	}
	// Another version may compress differently, so only the lines are compared.
	body, there, err := store.Open(ctx, o.Key)
	if err != nil {
		return 0, "", unreadable(ctx, store, o, err)
	}
	defer body.Close()
	same := there.SameContent(o.Metadata)
	if there.SHA256 != "" && !same {
		return OtherLines, there.ETag, nil
	}
	in := &source{in: &pacedReader{ctx, body, callOptionsOf(ctx).Bandwidth}, size: there.Size}
	equal, damage, err := sameLines(in, o.Metadata)
	switch {
	case in.err != nil: // an interrupted read is not other content
		return 0, "", unreadable(ctx, store, o, in.err)
	case err != nil:
		return 0, "", err
	case equal:
		return SameLines, there.ETag, nil
	case same, damage && namesLines(o):
		return DamagedCopy, there.ETag, nil
	case damage:
		return Undecodable, there.ETag, nil
	}
	return OtherLines, there.ETag, nil
}

// Unreadable is the error for an object that the storage has but did not return. The
// storage may still be starting, or it has lost the bytes but not the name.
type Unreadable struct {
	Found Comparison // the result of Compare if the bytes are lost
	ETag  string
	Err   error
}

func (u *Unreadable) Error() string { return u.Err.Error() }
func (u *Unreadable) Unwrap() error { return u.Err }

// unreadable returns an *Unreadable if the storage has the object that could not be read,
// otherwise err.
func unreadable(ctx context.Context, store Store, o *Object, err error) error {
	var refused *Error
	if errors.Is(err, ErrNotFound) || errors.As(err, &refused) && (refused.Forbidden || refused.Permanent) {
		return err
	}
	there, statErr := store.Stat(ctx, o.Key)
	if statErr != nil {
		return err
	}
	found := Undecodable
	switch same := there.SameContent(o.Metadata); {
	case there.SHA256 != "" && !same:
		found = OtherLines
	case same, namesLines(o):
		found = DamagedCopy
	}
	return &Unreadable{found, there.ETag, err}
}

// namesLines reports whether the key alone identifies the lines: the key of an object
// beside another contains the beginning of their SHA-256.
func namesLines(o *Object) bool {
	k, ok := ParseKey(o.Key)
	return ok && k.Beside
}

// sameLines decodes an object and reports whether its lines match want. damage means that
// it can't be decoded.
func sameLines(in io.Reader, want Metadata) (equal, damage bool, err error) {
	dec, err := newDecoder(in)
	if err != nil {
		return false, false, err
	}
	defer dec.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(dec, want.RawBytes+1))
	if err != nil {
		return false, true, nil // damaged, or not zstd
	}
	return n == want.RawBytes && hex.EncodeToString(sum.Sum(nil)) == want.SHA256, false, nil
}
