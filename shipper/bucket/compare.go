package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
)

// Comparison is what there is under the key of an object.
type Comparison int

// What there can be under the key of an object.
const (
	OtherLines  Comparison = iota
	SameLines              // as the object has
	DamagedCopy            // its metadata or name claims the same lines, and it has others
	Undecodable            // it can't be read, and nothing claims what it was
)

// How Compare looks.
const (
	Look = false // metadata and size are believed
	Read = true  // only the lines are
)

// Compare looks whether the storage has the same lines under the object's key, and
// returns the ETag of what it has. Metadata and size are believed, unless read says
// otherwise, a checksum disagrees or they are doubtful: what a proof refused must not be
// accepted here by the next attempt. What reads as other lines is read again: they may
// have changed on their way here alone. ErrNotFound means that there is nothing. The
// object needs no body.
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
	// Another version compresses otherwise: only the lines can be compared.
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
	case in.err != nil: // what broke off is not other content
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

// Unreadable is the error of an object that the storage has and did not return: it is
// about to, as after a start, or it has lost the bytes and knows the name.
type Unreadable struct {
	Found Comparison // if it has lost them
	ETag  string
	Err   error
}

func (u *Unreadable) Error() string { return u.Err.Error() }
func (u *Unreadable) Unwrap() error { return u.Err }

// unreadable asks whether the storage has an object that could not be read.
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

// namesLines reports whether the name alone determines the lines: that of an object
// beside another has the beginning of their SHA-256.
func namesLines(o *Object) bool {
	k, ok := ParseKey(o.Key)
	return ok && k.Beside
}

// sameLines reads an object, whatever it is, and reports whether its lines are
// those that want describes, and whether it could not be read to there.
func sameLines(in io.Reader, want Metadata) (equal, damage bool, err error) {
	dec, err := newDecoder(in)
	if err != nil {
		return false, false, err
	}
	defer dec.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(dec, want.RawBytes+1))
	if err != nil {
		return false, true, nil // it is damaged, or no zstd at all
	}
	return n == want.RawBytes && hex.EncodeToString(sum.Sum(nil)) == want.SHA256, false, nil
}
