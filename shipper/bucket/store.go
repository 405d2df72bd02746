package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Store is a destination of objects. Keys are relative to it and use slashes on every
// storage.
type Store interface {
	// Put stores the object and returns after the storage has proven that the object is stored.
	// It replaces nothing, unless the object requests a replacement. ErrExists means that the key
	// is taken, ErrNotReplaced that a requested replacement failed.
	Put(ctx context.Context, o *Object) error
	// Stat returns the properties of an object without reading its lines; ErrNotFound
	// means that there is none.
	Stat(ctx context.Context, key string) (Stored, error)
	// List returns the keys that begin with prefix, in any order.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
	// Open reads an object, and returns its properties as Stat does. The caller closes
	// it.
	Open(ctx context.Context, key string) (io.ReadCloser, Stored, error)
	// Probe finds out what the storage can do, unless that is known. The first Put
	// probes, too.
	Probe(ctx context.Context) error
	// Capabilities returns the result of the last probe that succeeded.
	Capabilities() Capabilities
	// String names the destination, for people.
	String() string
}

// Stored are the properties of a stored object.
type Stored struct {
	Metadata
	Size   int64  // negative: not known
	CRC32C string // of its bytes, as base64; empty: not known
	ETag   string // identifies this version of it; empty: not known
	// Modified is when the storage accepted the object, by the storage's clock; zero: not
	// known. It is zero in a folder: the time of a file may be by the host's own clock, or that
	// of a copy.
	Modified time.Time
	// Doubtful means that the bytes may not match the metadata, or that there is no
	// metadata.
	Doubtful bool
}

// objectBody is the body of an object. An error of the transfer is an *Error, unlike
// damage of the object.
type objectBody struct {
	io.ReadCloser
	fail func(error) error
}

func (b *objectBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader's end is never wrapped
		err = b.fail(err)
	}
	return n, err
}

// Errors of a Store that callers branch on.
var (
	ErrExists   = errors.New("there is an object of that name already")
	ErrNotFound = errors.New("no such object")
	// ErrNotReplaced means that the storage can't replace a single version of an object,
	// denies it, or has another version by now.
	ErrNotReplaced = errors.New("the storage does not replace the object")
)

// Error is a failure of the storage, of one operation on one object.
type Error struct {
	Op             string // "put", "stat", "list" or "open"
	Key            string
	Kind           string        // short and stable, for metrics: "timeout", "AccessDenied", …
	Permanent      bool          // a person has to correct something
	ThisObjectOnly bool          // only this object is affected: the others can go on
	Forbidden      bool          // the keys are valid, but lack the permission
	Hint           string        // what to do about it; may be empty
	RetryAfter     time.Duration // the delay that the storage requests
	Err            error
}

// maxErrorText limits the characters of an error that are repeated: a storage chooses its messages.
const maxErrorText = 1000

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %.*s", strings.TrimSpace(e.Op+" "+e.Key), maxErrorText, e.Err)
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Kinds of an Error that other packages use.
const (
	Timeout   = "timeout"     // the storage did not answer, or stopped answering
	TooLarge  = "too_large"   // the storage, or a proxy in front of it, refuses an object for its size
	NotAStore = "not_a_store" // the answer is not S3's
	Unproven  = "unproven"    // a put was answered with success, but nothing proves that the object is stored

	NotEncrypted = "not_encrypted" // the storage does not confirm the requested encryption
	Unverified   = "unverified"    // the storage does not verify the configured checksum
)

// RaiseLimit is the hint for an object that is too large.
const RaiseLimit = "raise the limit of the storage, or of the proxy in front of it (nginx: client_max_body_size)"

// Destination describes where objects go and how to connect.
type Destination struct {
	URL   string // file:///path or s3://bucket/prefix
	Owner string // log id, as HexID, of the collector that puts; empty for others
	S3    S3Options
}

// Open opens a destination. It does not use the network.
func Open(d Destination) (Store, error) {
	u, err := url.Parse(d.URL)
	if err == nil {
		err = checkURL(u)
	}
	if err != nil {
		return nil, fmt.Errorf("destination %s: %w", d.URL, err)
	}
	if u.Scheme == "s3" {
		prefix := strings.Trim(u.Path, "/")
		if prefix != "" {
			prefix += "/"
		}
		return newS3Store(u.Host, prefix, d.S3)
	}
	s, err := newFolder(u.Path, d.Owner)
	if err != nil && d.S3.Logger != nil { // like an unreachable bucket, it must not prevent the start
		d.S3.Logger.Error("the folder can't be used: nothing is shipped until it can (see to its owner, its mode, or the disk)", "path", u.Path, "error", err)
	}
	return s, nil
}

func checkURL(u *url.URL) error {
	if u.Scheme == "s3" && u.Host != "" || u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/") {
		return nil
	}
	return errors.New("is neither file:///path nor s3://bucket/prefix")
}

// OpenToRead opens a destination and changes nothing there: it does not create a folder,
// or remove the files that a daemon is writing.
func OpenToRead(d Destination) (Store, error) {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "file" || u.Host != "" || !filepath.IsAbs(u.Path) {
		return Open(d)
	}
	if info, err := os.Stat(u.Path); err != nil {
		return nil, fmt.Errorf("archive folder: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("archive folder: %s is not a directory", u.Path)
	}
	return readFolder(u.Path), nil
}
