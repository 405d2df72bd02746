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
	SameLines              // the storage has the object's lines
	DamagedCopy            // the stored object has other lines, although its metadata or key claims the same lines
	Undecodable            // the stored object can't be read, and neither metadata nor key describes its lines
)

// Modes of Compare.
const (
	MetadataOnly = false // metadata and size are trusted
	ReadLines    = true  // the lines are read
)

// Compare compares the lines of an object with those that the storage has under its key,
// and returns the ETag of the stored object. With MetadataOnly it trusts metadata and size,
// unless a checksum differs or Stat reports doubt: after a failed proof, the next attempt
// must not accept the object unread. A difference is checked again by reading, since
// bytes may have changed in transit. ErrNotFound means that the key is free. The object
// needs no Body.
func Compare(ctx context.Context, store Store, o *Object, read bool) (found Comparison, etag string, err error) {
	if found, etag, err = compareOnce(ctx, store, o, read); err == nil && found != SameLines {
		return compareOnce(ctx, store, o, ReadLines)
	}
	return found, etag, err
}

func compareOnce(ctx context.Context, store Store, o *Object, read bool) (found Comparison, etag string, err error) {
	if !read {
		stored, err := store.Stat(ctx, o.Key)
		if err != nil {
			return 0, "", err
		}
		same := stored.SameContent(o.Metadata)
		switch {
		case stored.SHA256 != "" && !same:
			return OtherLines, stored.ETag, nil
		case same && stored.Size == o.Size && (stored.CRC32C == "" && !stored.Doubtful || stored.CRC32C == o.checksum()):
			return SameLines, stored.ETag, nil
		}
	}
	// Another version may compress differently, so only the lines are compared.
	body, stored, err := store.Open(ctx, o.Key)
	if err != nil {
		return 0, "", unreadable(ctx, store, o, err)
	}
	defer body.Close()
	same := stored.SameContent(o.Metadata)
	if stored.SHA256 != "" && !same {
		return OtherLines, stored.ETag, nil
	}
	in := &source{in: &pacedReader{ctx, body, callOptionsOf(ctx).Bandwidth}, size: stored.Size}
	equal, damage, err := sameLines(in, o.Metadata)
	switch {
	case in.storageErr != nil: // an interrupted read does not mean other content
		return 0, "", unreadable(ctx, store, o, in.storageErr)
	case err != nil:
		return 0, "", err
	case equal:
		return SameLines, stored.ETag, nil
	case same, damage && keyNamesLines(o):
		return DamagedCopy, stored.ETag, nil
	case damage:
		return Undecodable, stored.ETag, nil
	}
	return OtherLines, stored.ETag, nil
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
	stored, statErr := store.Stat(ctx, o.Key)
	if statErr != nil {
		return err
	}
	found := Undecodable
	switch same := stored.SameContent(o.Metadata); {
	case stored.SHA256 != "" && !same:
		found = OtherLines
	case same, keyNamesLines(o):
		found = DamagedCopy
	}
	return &Unreadable{found, stored.ETag, err}
}

// keyNamesLines reports whether the key alone identifies the lines: the key of an object
// beside another contains the beginning of their SHA-256.
func keyNamesLines(o *Object) bool {
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
